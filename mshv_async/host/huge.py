"""Leaves of upper page-table levels: where they may be, and splitting them (spec.md 1.1, 1.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT, PMD_ORDER, PMD_PAGES
from mshv_async.sim import Op, do, note, probe

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm
    from mshv_async.host.vma import Vma

Span = tuple[int, int]


def thp_enabled(mm: Mm, vma: Vma) -> bool:
    """Whether transparent huge pages may back a VMA, by its kind, its advice and the host."""
    thp = mm.host.thp
    if thp == "never" or not vma.anonymous or "NOHUGEPAGE" in vma.flags:
        return False
    return thp == "always" or "HUGEPAGE" in vma.flags


def fits(vma: Vma, lo: int) -> bool:
    """Whether the 2 MiB at vpn ``lo`` lie in a VMA."""
    first, last = vma.vpns
    return first <= lo and lo + PMD_PAGES <= last


def parts_of_hole(mm: Mm, vma: Vma, lo: int, hi: int) -> list[tuple[int, int, int]]:
    """Cut a hole into parts with their order: whole aligned ones for a leaf, the rest of order 0.

    A transparent huge page needs 2 MiB of which nothing is populated; parts of hugetlb's and of
    such a one may begin before ``lo`` and end behind ``hi``.
    """
    order = vma.hugetlb_order
    if order:
        n = 1 << order
        return [(at, at + n, order) for at in range(lo & -n, hi, n)]
    if not thp_enabled(mm, vma):
        return [(lo, hi, 0)]
    found: list[tuple[int, int, int]] = []
    while lo < hi:
        chunk = lo & -PMD_PAGES
        stop = min(hi, chunk + PMD_PAGES)
        if fits(vma, chunk) and not mm.ptes.runs(chunk, chunk + PMD_PAGES):
            found.append((chunk, chunk + PMD_PAGES, PMD_ORDER))
        elif found and found[-1][1] == lo and not found[-1][2]:
            found[-1] = (found[-1][0], stop, 0)
        else:
            found.append((lo, stop, 0))
        lo = stop
    return found


def leaf_at(mm: Mm, vpn: int) -> Span | None:
    """Return the vpns of the leaf that maps a page; None: there is none."""
    pte = mm.ptes.get(vpn)
    if pte is None or not pte.order:
        return None
    first = vpn >> pte.order << pte.order
    return first, first + (1 << pte.order)


def leaf_across(mm: Mm, lo: int, hi: int) -> Span | None:
    """Return a leaf that lies partly in ``[lo, hi)`` and partly outside."""
    leaf = leaf_at(mm, lo)
    if leaf is not None and leaf[0] < lo:
        return leaf
    leaf = leaf_at(mm, hi - 1)
    return leaf if leaf is not None and leaf[1] > hi else None


def piece_end(mm: Mm, at: int, hi: int) -> int:
    """Return where the next step's piece from ``at`` ends: the grain's, but leaves stay whole."""
    end = mm.host.grain.pieces(at, hi)[0][1]
    vma = mm.vmas.get(at)
    if vma is not None and vma.hugetlb_order:  # its walks go by huge pages, mapped or not
        size = 1 << vma.hugetlb_order
        return min(hi, -(-end // size) * size)
    leaf = leaf_at(mm, end - 1)
    if leaf is None or leaf[1] <= end:
        return end
    return leaf[0] if leaf[0] > at else min(leaf[1], hi)


async def stand_at_piece(mm: Mm, label: str, at: int, hi: int) -> int:
    """Declare a change of the next piece from ``at`` on; return where it ends.

    A leaf that sticks out of ``[at, hi)`` is split first, inside the caller's bracket: the second
    event of a partial MADV_DONTNEED (bugs.md A11).
    """
    while True:
        end = piece_end(mm, at, hi)
        await do(Op(label, mm.ptes, at, end))
        leaf = leaf_across(mm, at, end)
        if leaf is None:
            return end
        if leaf[0] < at or leaf[1] > hi:  # one faulted in behind ``at`` meanwhile sticks out too
            await split_huge_pmd(mm, leaf[0])


async def split_leaves_at(mm: Mm, lo: int, hi: int) -> None:
    """Split the leaves that ``lo`` or ``hi`` cut, as each split of a VMA does beforehand."""
    for edge in (lo, hi):
        if edge % PMD_PAGES:
            await do(Op("vma.adjust", mm.ptes, edge - 1, edge + 1, write=False))
            leaf = leaf_at(mm, edge)
            if leaf is not None and leaf[0] < edge:
                await split_huge_pmd(mm, leaf[0])


async def split_huge_pmd(mm: Mm, lo: int) -> None:
    """Map the pages of the leaf of 2 MiB at vpn ``lo`` by 512 entries; the folio stays whole.

    Inside a CLEAR bracket of its own. Pins do not matter.
    """
    hi = lo + PMD_PAGES
    bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, NotifierEvent.CLEAR)
    await invalidate_range_start(bracket)
    await do(Op("pmd.split", mm.ptes, lo, hi))
    pte = mm.ptes.get(lo)
    if pte is not None and pte.order == PMD_ORDER:
        mm.ptes.set(lo, hi, pte._replace(order=0))
        probe("pte.change", mm, lo, hi)
        note("pmd.split", vpn=lo)
    await invalidate_range_end(bracket)
