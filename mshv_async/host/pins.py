"""Long-term pins (spec.md 1.2)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mshv_async.host.fault import handle_mm_fault
from mshv_async.host.mm import mmap_read_lock_killable, mmap_read_unlock
from mshv_async.host.page import PAGE_SHIFT
from mshv_async.host.pte import PRESENT
from mshv_async.sim import Op, current, do, injected, note

if TYPE_CHECKING:
    from mshv_async.host.frame import Runs
    from mshv_async.host.frames import HostMemory
    from mshv_async.host.mm import Mm


async def pin_user_pages_fast(
    mm: Mm, start: int, npages: int, *, write: bool = True
) -> tuple[int, Runs]:
    """Pin the pages from ``start`` (bytes) on; return how many, and their frames in order.

    First what is mapped already, without a lock, then under mmap_lock with faults. Fewer than
    asked is no error. With none at all: -EFAULT (gap, rights, failed fault), -ENOMEM or -EINTR.
    At ``pin`` an errno can be injected, or status ``SHORT`` for half of the pages.
    """
    failure = injected("pin")
    if failure is not None and failure.errno:
        return -int(getattr(errno, failure.errno)), []
    if failure is not None:
        npages -= npages // 2
    lo = start >> PAGE_SHIFT
    hi = lo + npages
    runs: Runs = []
    await do(Op("gup.fast", mm.ptes, lo, hi))
    at = _pin_mapped(mm, lo, hi, write, runs)
    ret = 0
    if at < hi:
        ret = await mmap_read_lock_killable(mm)
        if not ret:
            at, ret = await _pin_slow(mm, at, hi, write, runs)
            await mmap_read_unlock(mm)
    note("pin", vpn=lo, pages=npages, pinned_pages=at - lo, ret=ret)
    return (at - lo if at > lo else ret), runs


def unpin_user_pages(host: HostMemory, runs: Runs) -> None:
    """Give pinned frames back; those that nobody else holds are freed."""
    for pfn_lo, pfn_hi in runs:
        host.unpin(pfn_lo, pfn_hi - pfn_lo)


def _pin_mapped(mm: Mm, lo: int, hi: int, write: bool, runs: Runs) -> int:
    """Pin from ``lo`` on as long as the entries allow it; return where they stop."""
    at = lo
    for a, b, pte in mm.ptes.runs(lo, hi):
        if a != at or not pte.present or (write and not pte.write):
            break
        if pte.state is PRESENT:
            mm.host.pin(pte.pfn, b - a)
            _append(runs, pte.pfn, pte.pfn + b - a)
        else:
            runs.extend((pte.pfn, pte.pfn + 1) for _ in range(b - a))
        at = b
    return at


def _append(runs: Runs, lo: int, hi: int) -> None:
    if runs and runs[-1][1] == lo:
        runs[-1] = (runs[-1][0], hi)
    else:
        runs.append((lo, hi))


async def _pin_slow(mm: Mm, at: int, hi: int, write: bool, runs: Runs) -> tuple[int, int]:
    while at < hi:
        vma = mm.vmas.get(at)
        if vma is None or vma.raw or not (vma.writable if write else vma.readable):
            return at, -errno.EFAULT
        if current().fatal_pending:
            return at, -errno.EINTR
        _, stop = mm.host.grain.pieces(at, min(hi, vma.vpns[1]))[0]
        await do(Op("gup.pin", mm.ptes, at, stop))
        done = _pin_mapped(mm, at, stop, write, runs)
        if done == at:
            _, end, _ = mm.ptes.pieces(at, stop)[0]
            fault = await handle_mm_fault(mm, vma, at, end, write=write)
            if fault:
                return at, fault.to_errno()
        at = done
    return at, 0
