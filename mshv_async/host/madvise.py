"""madvise: DONTNEED, FREE and PAGEOUT (spec.md 1.4)."""

from __future__ import annotations

from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mshv_async.host.mm import mmap_read_lock, mmap_read_unlock
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT, page_aligned, pages_of
from mshv_async.host.pte import PRESENT, SWAP, Pte
from mshv_async.host.reclaim import reclaim_pages
from mshv_async.host.zap import zap_range
from mshv_async.sim import Op, do, probe

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm
    from mshv_async.host.vma import Vma


async def madvise(mm: Mm, start: int, length: int, advice: str) -> int:
    """Advise on bytes from ``start``: ``dontneed``, ``free`` or ``pageout``.

    -EINVAL: misaligned, unknown advice, or a VMA that does not take it (LOCKED, PFNMAP; shared
    memory for FREE). -ENOMEM: there was a gap; the rest was done. mmap_lock for reading.
    """
    act = {"dontneed": _dontneed, "free": _free, "pageout": _pageout}.get(advice)
    if act is None or not page_aligned(start):
        return -EINVAL
    await mmap_read_lock(mm)
    ret = 0
    for lo, hi, vma in mm.vmas.pieces(*pages_of(start, length)):
        if vma is None:
            ret = -ENOMEM
            continue
        refused = await act(mm, vma, lo, hi)
        if refused:
            ret = refused
            break
    await mmap_read_unlock(mm)
    return ret


async def _dontneed(mm: Mm, vma: Vma, lo: int, hi: int) -> int:
    if "LOCKED" in vma.flags or "PFNMAP" in vma.flags:
        return -EINVAL
    bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, NotifierEvent.CLEAR)
    await invalidate_range_start(bracket)
    await zap_range(mm, lo, hi)
    await invalidate_range_end(bracket)
    return 0


async def _free(mm: Mm, vma: Vma, lo: int, hi: int) -> int:
    if "SHARED" in vma.flags or vma.raw or "LOCKED" in vma.flags:
        return -EINVAL
    bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, NotifierEvent.CLEAR)
    await invalidate_range_start(bracket)
    for a, b in mm.host.grain.pieces(lo, hi):
        await do(Op("pte.free", mm.ptes, a, b))
        for x, y, pte in mm.ptes.runs(a, b):
            _make_lazyfree(mm, x, y, pte)
    await do(mm.op_flush)
    await invalidate_range_end(bracket)
    return 0


def _make_lazyfree(mm: Mm, lo: int, hi: int, pte: Pte) -> None:
    """Make an entry clean, its page droppable; what is in swap is dropped at once."""
    if pte.state is SWAP:
        mm.host.swap.release(pte.pfn, pte.pfn + hi - lo)
        mm.ptes.clear(lo, hi)
        probe("pte.discard", mm, lo, hi)
    elif pte.state is PRESENT:
        mm.host.set_lazyfree(pte.pfn, hi - lo, lazyfree=True)
        mm.ptes.set(lo, hi, Pte(PRESENT, pte.pfn, pte.write, False))
        probe("pte.lazyfree", mm, lo, hi)
    else:
        return
    probe("pte.change", mm, lo, hi)


async def _pageout(mm: Mm, vma: Vma, lo: int, hi: int) -> int:
    if vma.raw or "LOCKED" in vma.flags:
        return -EINVAL
    await reclaim_pages(mm, lo << PAGE_SHIFT, hi - lo)
    return 0
