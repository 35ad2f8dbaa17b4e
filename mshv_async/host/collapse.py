"""Collapsing small pages into a huge one: khugepaged and MADV_COLLAPSE (spec.md 1.4)."""

from __future__ import annotations

from errno import EAGAIN, EINVAL, ENOMEM
from typing import TYPE_CHECKING, Final

from mshv_async.host.fault import handle_mm_fault
from mshv_async.host.folio_lock import any_locked
from mshv_async.host.huge import fits, thp_enabled
from mshv_async.host.mm import (
    mmap_read_lock,
    mmap_read_unlock,
    mmap_write_lock,
    mmap_write_unlock,
)
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT, PMD_ORDER, PMD_PAGES
from mshv_async.host.pte import PRESENT, SWAP, Pte, PteState
from mshv_async.host.zap import release
from mshv_async.sim import Op, do, note, probe

if TYPE_CHECKING:
    from mshv_async.host.folio import Folio
    from mshv_async.host.mm import Mm
    from mshv_async.host.vma import Vma

MAX_PTES_SWAP: Final = 64
"""How many swapped pages khugepaged brings back for a huge one; MADV_COLLAPSE has no limit."""

Entries = list[tuple[int, int, Pte]]


async def collapse_huge_page(mm: Mm, start: int, *, khugepaged: bool = True) -> int:
    """Put a huge page in the place of the small ones of the 2 MiB at ``start`` (bytes, aligned).

    0: a leaf maps it now, or did already. -EINVAL: no such memory, nothing populated, too much in
    swap, or a dying process. -EAGAIN: a page is pinned, locked or on the move. -ENOMEM. Holes and
    zero pages become part of the huge page. ``khugepaged``: heeds advice and limits.
    """
    lo = start >> PAGE_SHIFT
    ret = await _scan(mm, lo, khugepaged)
    if ret <= 0:
        return ret
    folio = await mm.host.alloc_folio(PMD_ORDER, "collapse")
    ret = -ENOMEM if folio is None else await _bring_back(mm, lo, khugepaged)
    if folio is not None and not ret:
        await mmap_write_lock(mm)
        ret = await _replace(mm, lo, folio, khugepaged)
        await mmap_write_unlock(mm)
    if folio is not None and ret:
        await release(mm.host, [(folio.head, folio.end)])
    note("thp.collapse", vpn=lo, ret=ret)
    return ret


def _suitable(mm: Mm, lo: int, khugepaged: bool) -> Vma | None:
    """Return the VMA if it still takes a huge page there. mmap_lock is held."""
    vma = mm.vmas.get(lo)
    if lo % PMD_PAGES or vma is None or not vma.anonymous or not fits(vma, lo):
        return None
    if mm.users.count <= 0 or mm.host.thp == "never" or "NOHUGEPAGE" in vma.flags:
        return None
    return vma if not khugepaged or thp_enabled(mm, vma) else None


async def _scan(mm: Mm, lo: int, khugepaged: bool) -> int:
    """Look whether it is worth while: 1, or what the collapse comes to."""
    await mmap_read_lock(mm)
    ret = 1
    if _suitable(mm, lo, khugepaged) is None:
        ret = -EINVAL
    else:
        await do(Op("collapse.scan", mm.ptes, lo, lo + PMD_PAGES, write=False))
        entries = mm.ptes.runs(lo, lo + PMD_PAGES)
        swapped = sum(b - a for a, b, pte in entries if pte.state is SWAP)
        if entries and entries[0][2].order:
            ret = 0
        elif not entries or (khugepaged and swapped > MAX_PTES_SWAP):
            ret = -EINVAL
        elif not _movable(mm, entries, swap=True):
            ret = -EAGAIN
    await mmap_read_unlock(mm)
    return ret


def _movable(mm: Mm, entries: Entries, *, swap: bool = False) -> bool:
    """Whether all pages can be taken: present, neither pinned nor locked."""
    host = mm.host
    for a, b, pte in entries:
        if pte.state is SWAP and swap:
            continue
        if pte.state is PteState.ZERO and not pte.order:
            continue
        if pte.state is not PRESENT or pte.order:
            return False
        frames = host.frames.runs(pte.pfn, pte.pfn + b - a)
        if any(s.pins for _, _, s in frames) or any_locked(host, pte.pfn, pte.pfn + b - a):
            return False
    return True


async def _bring_back(mm: Mm, lo: int, khugepaged: bool) -> int:
    """Read in what is in swap, under mmap_lock for reading."""
    await mmap_read_lock(mm)
    vma = _suitable(mm, lo, khugepaged)
    ret = 0 if vma is not None else -EINVAL
    if vma is not None:
        await do(Op("collapse.swapin", mm.ptes, lo, lo + PMD_PAGES, write=False))
        for a, b, pte in mm.ptes.runs(lo, lo + PMD_PAGES):
            if pte.state is SWAP and await handle_mm_fault(mm, vma, a, b, write=False):
                ret = -EINVAL
                break
    await mmap_read_unlock(mm)
    return ret


async def _replace(mm: Mm, lo: int, folio: Folio, khugepaged: bool) -> int:
    """Clear the entries inside a bracket, take the pages, copy them, and map the huge page.

    The bracket ends before the huge page is mapped: mmap_lock for writing keeps all others out.
    """
    hi = lo + PMD_PAGES
    vma = _suitable(mm, lo, khugepaged)
    if vma is None:
        return -EINVAL
    await mm.rmap_lock.down_write()
    bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, NotifierEvent.CLEAR)
    await invalidate_range_start(bracket)
    await do(Op("pmd.clear", mm.ptes, lo, hi))
    old = mm.ptes.runs(lo, hi)
    mm.ptes.clear(lo, hi)
    probe("pte.change", mm, lo, hi)
    await invalidate_range_end(bracket)
    await do(Op("collapse.isolate", mm.host))
    movable = bool(old) and _movable(mm, old)
    if not movable:
        await do(Op("pmd.restore", mm.ptes, lo, hi))
        for a, b, pte in old:
            mm.ptes.set(a, b, pte)
        probe("pte.change", mm, lo, hi)
    await mm.rmap_lock.up_write()
    if not movable:
        return -EAGAIN
    await _move(mm, lo, old, folio)
    await do(Op("pmd.set", mm.ptes, lo, hi))
    mm.install(lo, [(folio.head, folio.end)], write=vma.writable, order=PMD_ORDER, dirty=True)
    probe("pte.change", mm, lo, hi)
    return 0


async def _move(mm: Mm, lo: int, old: Entries, folio: Folio) -> None:
    """Copy the pages into the huge one, and free them."""
    host = mm.host
    await do(Op("collapse.copy", host))
    gathered = [(pte.pfn, pte.pfn + b - a) for a, b, pte in old if pte.owns_frame]
    for a, b, pte in old:
        if pte.owns_frame:
            for x, y, tag in host.contents.runs(pte.pfn, pte.pfn + b - a):
                to = folio.head + a - lo - pte.pfn
                host.contents.set(x + to, y + to, tag)
            host.remove_rmap(pte.pfn, b - a)
    await release(host, gathered)
