"""Faults that huge pages serve: transparent ones, the huge zero page, hugetlb's (spec.md 1.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.host.folio import take_hugetlb
from mshv_async.host.huge import split_huge_pmd
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT, PMD_ORDER, PMD_PAGES
from mshv_async.host.pte import HUGE_ZERO_PTE
from mshv_async.host.vmfault import Fault, VmFault
from mshv_async.host.zap import release
from mshv_async.sim import SLEEP, Op, do, injected, note, probe

if TYPE_CHECKING:
    from mshv_async.host.folio import Folio


async def huge_anonymous_page(fault: Fault) -> VmFault | None:
    """Fill a hole of aligned 2 MiB with one leaf; None: small pages have to do.

    A read fault maps the huge zero page. Only advised memory is reclaimed for (``defrag``).
    """
    if not fault.write:
        return await _map_huge_zero_page(fault)
    gfp = "kernel" if "HUGEPAGE" in fault.vma.flags else "light"
    folio = await fault.mm.host.alloc_folio(PMD_ORDER, "thp", gfp)
    if folio is None:
        note("thp.fallback", vpn=fault.lo)
        return None
    return await _install_leaf(fault, folio)


async def _map_huge_zero_page(fault: Fault) -> VmFault:
    mm = fault.mm
    await do(fault.op("pmd.set"))
    if mm.flags.unstable:
        return VmFault.SIGBUS
    if not mm.ptes.runs(fault.lo, fault.hi):
        mm.ptes.set(fault.lo, fault.hi, HUGE_ZERO_PTE)
        probe("pte.change", mm, fault.lo, fault.hi)
    return VmFault.DONE


async def huge_zero_page(fault: Fault) -> VmFault:
    """Replace leaves of the huge zero page that are to be written; without memory, split them."""
    if not fault.write:
        return VmFault.DONE
    for lo in range(fault.lo, fault.hi, PMD_PAGES):
        one = fault.part(lo, lo + PMD_PAGES)
        folio = await fault.mm.host.alloc_folio(PMD_ORDER, "thp")
        if folio is None:
            await split_huge_pmd(fault.mm, lo)
            continue
        start, end = lo << PAGE_SHIFT, (lo + PMD_PAGES) << PAGE_SHIFT
        bracket = MmuNotifierRange(fault.mm, start, end, NotifierEvent.CLEAR)
        await invalidate_range_start(bracket)
        ret = await _install_leaf(one, folio)
        await invalidate_range_end(bracket)
        if ret:
            return ret
    return VmFault.DONE


async def hugetlb_fault(fault: Fault) -> VmFault:
    """Fill one huge page's hole from the pool; SIGBUS when that is empty.

    Read faults allocate too, and map read-only. One mutex stands for the kernel's table of them.
    """
    mutex = fault.mm.host.hugetlb_mutex
    if mutex is None:
        return VmFault.SIGBUS  # no pool at all
    await mutex.lock()
    ret = await _hugetlb_no_page(fault)
    await mutex.unlock()
    return ret


async def _hugetlb_no_page(fault: Fault) -> VmFault:
    host = fault.mm.host
    await do(fault.op("hugetlb.fault", sleep=True))
    if fault.mm.ptes.runs(fault.lo, fault.hi):
        return VmFault.DONE
    op = Op("alloc.hugetlb", host, kind=SLEEP)
    await do(op)
    order = fault.vma.hugetlb_order
    folio = None if injected(op.label) is not None else take_hugetlb(host, order)
    if folio is None:
        probe("page.alloc_failed", host, "hugetlb")
        note("hugetlb.exhausted", vpn=fault.lo, order=order)
        return VmFault.SIGBUS
    return await _install_leaf(fault, folio)


async def _install_leaf(fault: Fault, folio: Folio) -> VmFault:
    """Map a folio by one leaf where the old entry still is; else give it back."""
    mm = fault.mm
    await do(fault.op("pmd.set"))
    unstable = mm.flags.unstable and not folio.hugetlb
    if unstable or fault.unchanged() != [(fault.lo, fault.hi, fault.pte)]:
        await release(mm.host, [(folio.head, folio.end)])
        return VmFault.SIGBUS if unstable else VmFault.DONE
    mm.install(fault.lo, [(folio.head, folio.end)], write=fault.write, order=folio.order)
    probe("pte.change", mm, fault.lo, fault.hi)
    return VmFault.DONE
