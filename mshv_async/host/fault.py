"""Page faults on anonymous memory, for the process itself or for others (spec.md 1.7).

One call serves a run of pages. Each entry is looked at again in the step that would install it,
as under the page-table lock: what changed meanwhile is left alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from mshv_async.host.huge import parts_of_hole
from mshv_async.host.huge_fault import huge_anonymous_page, huge_zero_page, hugetlb_fault
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT
from mshv_async.host.pte import PRESENT, SWAP, ZERO_PTE, Pte, PteState
from mshv_async.host.vmfault import Fault, VmFault
from mshv_async.sim import SLEEP, Op, do, injected, note, probe

if TYPE_CHECKING:
    from mshv_async.host.frame import Runs
    from mshv_async.host.frames import HostMemory
    from mshv_async.host.mm import Mm
    from mshv_async.host.vma import Vma


_INJECTED = {"ENOMEM": VmFault.OOM, "OOM": VmFault.OOM, "HWPOISON": VmFault.HWPOISON}


async def handle_mm_fault(mm: Mm, vma: Vma, lo: int, hi: int, *, write: bool) -> VmFault:
    """Make the vpns ``[lo, hi)`` of one VMA accessible; mmap_lock is held and stays held.

    The VMA's rights were checked. Failures are injected at ``fault``.
    """
    await do(Op("page.fault", mm.ptes, lo, hi, write=False, kind=SLEEP))
    note("page.fault", vpn=lo, pages=hi - lo, write=write)
    failure = injected("fault")
    if failure is not None:
        return _INJECTED.get(failure.errno or failure.status or "", VmFault.SIGBUS)
    for a, b, pte in mm.ptes.pieces(lo, hi):
        ret = await _serve(Fault(mm, vma, a, b, pte, write))
        if ret:
            return ret
    return VmFault.DONE


async def _serve(fault: Fault) -> VmFault:
    pte = fault.pte
    if pte is None:
        if fault.mm.host.large or fault.vma.flags:
            return await _fill_hole(fault)
        return await _small_pages(fault)
    handler = _BY_STATE.get(pte.state)
    if pte.order:
        fault = fault.whole_leaves()
    return VmFault.DONE if handler is None else await handler(fault)


async def _small_pages(fault: Fault) -> VmFault:
    return await (_anonymous_page(fault) if fault.write else _map_zero_page(fault))


async def _fill_hole(fault: Fault) -> VmFault:
    """Serve each part of a hole by what its VMA allows: huge pages, device memory, small pages."""
    if fault.vma.backing == "device":
        return await _map_device(fault)
    for lo, hi, order in parts_of_hole(fault.mm, fault.vma, fault.lo, fault.hi):
        ret: VmFault | None = None
        part = fault.part(lo, hi)
        if fault.vma.hugetlb_order:
            ret = await hugetlb_fault(part)
        elif order:
            ret = await huge_anonymous_page(part)
        if ret is None:
            ret = await _small_pages(fault.part(max(lo, fault.lo), min(hi, fault.hi)))
        if ret:
            return ret
    return VmFault.DONE


async def _map_device(fault: Fault) -> VmFault:
    """Map device memory, whose pfns the VMA names."""
    mm, vma = fault.mm, fault.vma
    await do(fault.op("pte.set"))
    for a, b, _ in fault.unchanged():
        pfn = vma.pgoff + a - vma.vpns[0]
        mm.ptes.set(a, b, Pte(PteState.SPECIAL, pfn, vma.writable))
        probe("pte.change", mm, a, b)
    return VmFault.DONE


async def _map_zero_page(fault: Fault) -> VmFault:
    mm = fault.mm
    await do(fault.op("pte.set"))
    if mm.flags.unstable:
        return VmFault.SIGBUS
    for a, b, _ in fault.unchanged():
        mm.ptes.set(a, b, ZERO_PTE)
        probe("pte.change", mm, a, b)
    return VmFault.DONE


async def _anonymous_page(fault: Fault) -> VmFault:
    if not await fault.mm.host.reserve_pages(fault.hi - fault.lo, "anon"):
        return VmFault.OOM
    return await _install(fault)


async def _zero_page(fault: Fault) -> VmFault:
    """Replace the zero page if it is to be written: the one fault with an event (spec.md 1.4)."""
    if fault.pte is not None and fault.pte.order:
        return await huge_zero_page(fault)
    if not fault.write:
        return VmFault.DONE
    if not await fault.mm.host.reserve_pages(fault.hi - fault.lo, "anon"):
        return VmFault.OOM
    start, end = fault.lo << PAGE_SHIFT, fault.hi << PAGE_SHIFT
    bracket = MmuNotifierRange(fault.mm, start, end, NotifierEvent.CLEAR)
    await invalidate_range_start(bracket)
    ret = await _install(fault)
    await invalidate_range_end(bracket)
    return ret


async def _swap_page(fault: Fault) -> VmFault:
    """Bring pages back from swap; writable only if written, as the slot is given up at once."""
    if not await fault.mm.host.reserve_pages(fault.hi - fault.lo, "swapin"):
        return VmFault.OOM
    await do(fault.op("swap.read", sleep=True))
    return await _install(fault)


async def _present_page(fault: Fault) -> VmFault:
    assert fault.pte is not None
    if fault.write and not fault.pte.write:
        return await _upgrade(fault, write=True)
    return VmFault.DONE


async def _protnone_page(fault: Fault) -> VmFault:
    return await _upgrade(fault, write=fault.vma.writable)


async def _migrating_page(fault: Fault) -> VmFault:
    assert fault.pte is not None
    await wait_on_migration(fault.mm, fault.lo, fault.pte)
    return VmFault.DONE


async def _poisoned_page(_: Fault) -> VmFault:
    return VmFault.HWPOISON


async def _special_page(fault: Fault) -> VmFault:
    assert fault.pte is not None
    return VmFault.SIGBUS if fault.write and not fault.pte.write else VmFault.DONE


_BY_STATE: Mapping[PteState, Callable[[Fault], Awaitable[VmFault]]] = MappingProxyType(
    {
        PteState.PRESENT: _present_page,
        PteState.ZERO: _zero_page,
        PteState.PROTNONE: _protnone_page,
        PteState.SWAP: _swap_page,
        PteState.MIGRATION: _migrating_page,
        PteState.HWPOISON: _poisoned_page,
        PteState.SPECIAL: _special_page,
    }
)


async def _upgrade(fault: Fault, *, write: bool) -> VmFault:
    """Make the same page accessible (again); no event."""
    mm = fault.mm
    await do(fault.op("pte.set"))
    if mm.flags.unstable:
        return VmFault.SIGBUS
    for a, b, now in fault.unchanged():
        assert now is not None
        mm.ptes.set(a, b, Pte(PRESENT, now.pfn, write, now.dirty or fault.write, now.order))
        probe("pte.change", mm, a, b)
    return VmFault.DONE


async def _install(fault: Fault) -> VmFault:
    """Map new frames where the old entries still are; give the others back."""
    mm = fault.mm
    await do(fault.op("pte.set"))
    left = fault.hi - fault.lo
    if mm.flags.unstable:
        await mm.host.give_back(left)
        return VmFault.SIGBUS
    for a, b, now in fault.unchanged():
        frames = mm.host.take_reserved(mm, a, b - a)
        if now is not None and now.state is SWAP:
            _fill_from_swap(mm.host, now.pfn, frames)
            mm.host.swap.release(now.pfn, now.pfn + b - a)
        mm.install(a, frames, write=fault.write)
        probe("pte.change", mm, a, b)
        left -= b - a
    await mm.host.give_back(left)
    return VmFault.DONE


def _fill_from_swap(host: HostMemory, slot: int, frames: Runs) -> None:
    for pfn_lo, pfn_hi in frames:
        for a, b, tag in host.swap.contents.runs(slot, slot + pfn_hi - pfn_lo):
            host.contents.set(pfn_lo + a - slot, pfn_lo + b - slot, tag)
        slot += pfn_hi - pfn_lo


class _Moved:
    """The condition that whoever meets a migration entry waits for."""

    __slots__ = ("mm", "pte", "vpn")

    def __init__(self, mm: Mm, vpn: int, pte: Pte) -> None:
        self.mm = mm
        self.vpn = vpn
        self.pte = pte

    def __call__(self) -> bool:
        return self.mm.ptes.get(self.vpn) != self.pte


async def wait_on_migration(mm: Mm, vpn: int, pte: Pte) -> None:
    """Sleep until the migration entry at ``vpn`` is gone; who removes it wakes the host's queue."""
    await mm.host.migration_wait.wait_event(_Moved(mm, vpn, pte))
