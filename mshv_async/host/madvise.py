"""madvise (spec.md 1.4). Advice on hugetlb is by whole huge pages."""

from __future__ import annotations

from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mshv_async.host.collapse import collapse_huge_page
from mshv_async.host.huge import leaf_across, piece_end
from mshv_async.host.mm import (
    mmap_read_lock,
    mmap_read_unlock,
    mmap_write_lock_killable,
    mmap_write_unlock,
)
from mshv_async.host.mmap import cut_vmas, merge_vmas
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT, PMD_PAGES, page_aligned, pages_of
from mshv_async.host.pte import PRESENT, SWAP, Pte
from mshv_async.host.reclaim import reclaim_pages
from mshv_async.host.split import split_folio
from mshv_async.host.zap import zap_range
from mshv_async.sim import Op, do, probe

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm
    from mshv_async.host.vma import Vma


async def madvise(mm: Mm, start: int, length: int, advice: str) -> int:
    """Advise on bytes from ``start``.

    ``dontneed``, ``free``, ``pageout``: with mmap_lock for reading. ``hugepage``, ``nohugepage``:
    for writing. ``collapse``: as khugepaged, for each whole 2 MiB, whatever was advised.
    -EINVAL: misaligned, unknown advice, or a VMA that does not take it (LOCKED, PFNMAP; shared
    memory for FREE; hugetlb but for DONTNEED). -ENOMEM: there was a gap; the rest was done, or no
    memory for collapse, whose other errors are those of :func:`collapse_huge_page`. -EINTR.
    """
    if not page_aligned(start):
        return -EINVAL
    lo, hi = pages_of(start, length)
    if advice in {"hugepage", "nohugepage"}:
        return await _advise_huge(mm, lo, hi, advice.upper())
    if advice == "collapse":
        return await _collapse(mm, lo, hi)
    act = {"dontneed": _dontneed, "free": _free, "pageout": _pageout}.get(advice)
    if act is None:
        return -EINVAL
    await mmap_read_lock(mm)
    ret = 0
    for a, b, vma in mm.vmas.pieces(lo, hi):
        if vma is None:
            ret = -ENOMEM
            continue
        refused = await act(mm, vma, a, b)
        if refused:
            ret = refused
            break
    await mmap_read_unlock(mm)
    return ret


async def _advise_huge(mm: Mm, lo: int, hi: int, flag: str) -> int:
    ret = await mmap_write_lock_killable(mm)
    if ret:
        return ret
    for a, b, vma in mm.vmas.pieces(lo, hi):
        if vma is None:
            ret = -ENOMEM
            continue
        flags = vma.flags - {"HUGEPAGE", "NOHUGEPAGE"} | {flag}
        if vma.flags == flags:
            continue
        await cut_vmas(mm, a, b, "vma.advise")
        mm.vmas.set(a, b, vma.part(a, b)._replace(flags=flags))
        merge_vmas(mm, a, b)
        probe("vma.change", mm)
    await mmap_write_unlock(mm)
    return ret


async def _collapse(mm: Mm, lo: int, hi: int) -> int:
    """Collapse all that can be; the last failure is what it comes to."""
    ret = 0
    for at in range(-(-lo // PMD_PAGES) * PMD_PAGES, hi - PMD_PAGES + 1, PMD_PAGES):
        failed = await collapse_huge_page(mm, at << PAGE_SHIFT, khugepaged=False)
        ret = failed or ret
    return ret


async def _dontneed(mm: Mm, vma: Vma, lo: int, hi: int) -> int:
    if "LOCKED" in vma.flags or "PFNMAP" in vma.flags:
        return -EINVAL
    if vma.hugetlb_order:
        size = 1 << vma.hugetlb_order
        if lo % size:
            return -EINVAL
        hi = hi // size * size  # down, lest more be lost than was said
        if lo == hi:
            return 0
    bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, NotifierEvent.CLEAR)
    await invalidate_range_start(bracket)
    await zap_range(mm, lo, hi)
    await invalidate_range_end(bracket)
    return 0


async def _free(mm: Mm, vma: Vma, lo: int, hi: int) -> int:
    if vma.flags & {"SHARED", "LOCKED", "HUGETLB"} or vma.raw:
        return -EINVAL
    bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, NotifierEvent.CLEAR)
    await invalidate_range_start(bracket)
    if mm.host.large:
        await _free_with_leaves(mm, lo, hi)
    else:
        for a, b in mm.host.grain.pieces(lo, hi):
            await do(Op("pte.free", mm.ptes, a, b))
            for x, y, pte in mm.ptes.runs(a, b):
                _make_lazyfree(mm, x, y, pte)
    await do(mm.op_flush)
    await invalidate_range_end(bracket)
    return 0


async def _free_with_leaves(mm: Mm, lo: int, hi: int) -> None:
    """Make entries and whole leaves clean; of which a part is meant is split first, or left."""
    at = lo
    while at < hi:
        end = piece_end(mm, at, hi)
        await do(Op("pte.free", mm.ptes, at, end))
        leaf = leaf_across(mm, at, end)
        if leaf is not None:
            # A leaf that was faulted in behind `at` is met in its middle.
            cut = leaf[0] < at or (leaf[0] == at and leaf[1] > hi)
            if cut and not await _split_at(mm, leaf[0]):
                at = min(hi, leaf[1])
            continue
        for x, y, pte in mm.ptes.runs(at, end):
            _make_lazyfree(mm, x, y, pte)
        at = end


async def _split_at(mm: Mm, vpn: int) -> bool:
    pte = mm.ptes.get(vpn)
    return pte is not None and pte.owns_frame and await split_folio(mm.host, mm.host.folio(pte.pfn))


def _make_lazyfree(mm: Mm, lo: int, hi: int, pte: Pte) -> None:
    """Make an entry clean, its page droppable; what is in swap is dropped at once."""
    if pte.state is SWAP:
        mm.host.swap.release(pte.pfn, pte.pfn + hi - lo)
        mm.ptes.clear(lo, hi)
        probe("pte.discard", mm, lo, hi)
    elif pte.state is PRESENT:
        mm.host.set_lazyfree(pte.pfn, hi - lo, lazyfree=True)
        mm.ptes.set(lo, hi, Pte(PRESENT, pte.pfn, pte.write, False, pte.order))
        probe("pte.lazyfree", mm, lo, hi)
    else:
        return
    probe("pte.change", mm, lo, hi)


async def _pageout(mm: Mm, vma: Vma, lo: int, hi: int) -> int:
    if vma.raw or vma.flags & {"LOCKED", "HUGETLB"}:
        return -EINVAL
    await reclaim_pages(mm, lo << PAGE_SHIFT, hi - lo)
    return 0
