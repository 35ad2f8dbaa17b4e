"""mmap, munmap and mprotect (spec.md 1.3, 1.4). Addresses and lengths in bytes."""

from __future__ import annotations

from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mshv_async.host.huge import split_leaves_at, stand_at_piece
from mshv_async.host.mm import (
    mmap_read_unlock,
    mmap_write_downgrade,
    mmap_write_lock_killable,
    mmap_write_unlock,
)
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT, PAGE_SIZE, PMD_PAGES, page_aligned, pages_of
from mshv_async.host.pte import PRESENT, Pte, PteState
from mshv_async.host.vma import HUGETLB_ORDER, Vma
from mshv_async.host.zap import zap_range
from mshv_async.sim import Op, do, probe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mshv_async.host.mm import Mm


async def mmap_fixed(
    mm: Mm,
    start: int,
    length: int,
    prot: str = "rw",
    flags: Iterable[str] = (),
    *,
    pgoff: int = 0,
    backing: str = "anon",
) -> int:
    """Map memory at ``start``, over whatever was there. 0, -EINVAL or -EINTR.

    ``backing`` as in :meth:`Mm.add_vma`; huge pages of hugetlb are mapped whole.
    """
    if not length or not _aligned(start, length, HUGETLB_ORDER.get(backing, 0)):
        return -EINVAL
    ret = await mmap_write_lock_killable(mm)
    if ret:
        return ret
    lo, hi = pages_of(start, length)
    if _cuts_hugetlb(mm, lo, hi):
        await mmap_write_unlock(mm)
        return -EINVAL
    if await _detach(mm, lo, hi):
        await _unmap_region(mm, lo, hi)
    await do(Op("vma.insert", mm.vmas, lo, hi))
    mm.add_vma(start, length, prot, flags, pgoff=pgoff, backing=backing)
    probe("vma.change", mm)
    await mmap_write_unlock(mm)
    return 0


def _aligned(start: int, length: int, order: int) -> bool:
    return not (start | length) & ((PAGE_SIZE << order) - 1)


async def munmap(mm: Mm, start: int, length: int) -> int:
    """Unmap; the pages are zapped under mmap_lock for reading. 0, -EINVAL or -EINTR.

    A range without VMAs is a success without an event. -EINVAL also if a huge page of hugetlb
    would be cut.
    """
    if not length or not page_aligned(start, length):
        return -EINVAL
    ret = await mmap_write_lock_killable(mm)
    if ret:
        return ret
    lo, hi = pages_of(start, length)
    if _cuts_hugetlb(mm, lo, hi):
        await mmap_write_unlock(mm)
        return -EINVAL
    if not await _detach(mm, lo, hi):
        await mmap_write_unlock(mm)
        return 0
    await mmap_write_downgrade(mm)
    await _unmap_region(mm, lo, hi)
    await mmap_read_unlock(mm)
    return 0


async def mprotect(mm: Mm, start: int, length: int, prot: str) -> int:
    """Change the rights of a range. 0, -EINVAL, -EINTR, or -ENOMEM when there is a gap in it.

    VMAs before a gap, or before a huge page of hugetlb that would be cut, are changed nevertheless.
    """
    if not page_aligned(start, length):
        return -EINVAL
    ret = await mmap_write_lock_killable(mm)
    if ret:
        return ret
    for lo, hi, vma in mm.vmas.pieces(*pages_of(start, length)):
        if vma is None:
            ret = -ENOMEM
            break
        if _cuts_hugetlb(mm, lo, hi):
            ret = -EINVAL
            break
        if vma.prot != prot:
            await _protect(mm, lo, hi, vma, prot)
    await mmap_write_unlock(mm)
    return ret


def _cuts_hugetlb(mm: Mm, lo: int, hi: int) -> bool:
    """Whether an edge of ``[lo, hi)`` lies inside a huge page of a hugetlb VMA."""
    for edge in (lo, hi):
        vma = mm.vmas.get(edge)
        if vma is not None and vma.flags and edge & ((1 << vma.hugetlb_order) - 1):
            return True
    return False


async def _detach(mm: Mm, lo: int, hi: int) -> bool:
    """Take the VMAs of ``[lo, hi)`` off the address space, splitting those at its ends."""
    if mm.host.large:
        await split_leaves_at(mm, lo, hi)
    await do(Op("vma.detach", mm.vmas, lo, hi))
    touched = mm.vmas.runs(lo, hi)
    if not touched:
        return False
    _split(mm, lo, hi)
    mm.vmas.clear(lo, hi)
    probe("vma.change", mm)
    return True


async def cut_vmas(mm: Mm, lo: int, hi: int, label: str) -> None:
    """Cut VMAs at ``lo`` and ``hi``, and before that the leaves there; ``label``: of the step."""
    if mm.host.large:
        await split_leaves_at(mm, lo, hi)
    await do(Op(label, mm.vmas, lo, hi))
    _split(mm, lo, hi)


def merge_vmas(mm: Mm, lo: int, hi: int) -> None:
    """Join what was cut at ``lo`` and ``hi`` and is alike again, in the step that made it so.

    Only huge pages mind where VMAs end; without them the cuts stay.
    """
    if not mm.host.large:
        return
    for edge in (lo, hi):
        left, right = mm.vmas.get(edge - 1), mm.vmas.get(edge)
        if left is None or right is None or left.end != right.start:
            continue
        joined = left._replace(end=right.end)
        first, last = joined.vpns
        if joined.part(edge, last) == right:
            mm.vmas.set(first, last, joined)


def _split(mm: Mm, lo: int, hi: int) -> None:
    """Cut VMAs at ``lo`` and ``hi``, so that what each records is what is left of it."""
    for edge in (lo, hi):
        vma = mm.vmas.get(edge)
        if vma is not None and vma.vpns[0] < edge:
            first, last = vma.vpns
            mm.vmas.set(first, edge, vma.part(first, edge))
            mm.vmas.set(edge, last, vma.part(edge, last))


async def _unmap_region(mm: Mm, lo: int, hi: int) -> None:
    bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, NotifierEvent.UNMAP)
    await invalidate_range_start(bracket)
    await zap_range(mm, lo, hi)
    await invalidate_range_end(bracket)


async def _protect(mm: Mm, lo: int, hi: int, vma: Vma, prot: str) -> None:
    await cut_vmas(mm, lo, hi, "vma.protect")
    mm.vmas.set(lo, hi, vma.part(lo, hi)._replace(prot=prot))
    merge_vmas(mm, lo, hi)
    probe("vma.change", mm)
    await do(Op("pte.scan", mm.ptes, lo, hi, write=False))
    populated = mm.ptes.runs(lo, hi)
    if not populated and not vma.hugetlb_order:
        return
    # The event begins with the first populated page-table page, and covers the rest; hugetlb's
    # covers everything.
    first = lo if vma.hugetlb_order else max(lo, populated[0][0] & ~(PMD_PAGES - 1))
    bracket = MmuNotifierRange(
        mm, first << PAGE_SHIFT, hi << PAGE_SHIFT, NotifierEvent.PROTECTION_VMA
    )
    await invalidate_range_start(bracket)
    if mm.host.large:
        at = first
        while at < hi:
            end = await stand_at_piece(mm, "pte.protect", at, hi)
            _protect_piece(mm, at, end, prot)
            at = end
    else:
        for a, b in mm.host.grain.pieces(first, hi):
            await do(Op("pte.protect", mm.ptes, a, b))
            _protect_piece(mm, a, b, prot)
    await do(mm.op_flush)
    await invalidate_range_end(bracket)


def _protect_piece(mm: Mm, lo: int, hi: int, prot: str) -> None:
    for a, b, pte in mm.ptes.runs(lo, hi):
        _protect_entries(mm, a, b, pte, prot)


def _protect_entries(mm: Mm, lo: int, hi: int, pte: Pte, prot: str) -> None:
    # Frames here belong to one page table alone, so a right to write comes back at once.
    # Migration entries get their rights from the VMA when they end.
    if pte.state is PteState.SPECIAL or pte.state is PteState.ZERO:
        if "r" not in prot:  # the next fault brings it back, if there is a right to it by then
            mm.ptes.clear(lo, hi)
            probe("pte.change", mm, lo, hi)
            return
        new = pte._replace(write="w" in prot and pte.state is PteState.SPECIAL)
    elif not pte.owns_frame:
        return
    elif "r" in prot:
        new = Pte(PRESENT, pte.pfn, "w" in prot, pte.dirty, pte.order)
    else:
        new = Pte(PteState.PROTNONE, pte.pfn, False, pte.dirty, pte.order)
    if new != pte:
        mm.ptes.set(lo, hi, new)
        probe("pte.change", mm, lo, hi)
