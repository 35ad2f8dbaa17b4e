"""Splitting a folio into ordinary pages, wherever it is mapped (spec.md 1.2).

While that goes on its pages are behind migration entries; whoever meets one waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.host.folio import dissolve, pinned
from mshv_async.host.folio_lock import folio_trylock, folio_unlock
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT
from mshv_async.host.pte import Pte, PteState
from mshv_async.host.zap import release
from mshv_async.sim import Op, do, note, probe

if TYPE_CHECKING:
    from mshv_async.host.folio import Folio
    from mshv_async.host.frame import Runs
    from mshv_async.host.frames import HostMemory
    from mshv_async.host.mm import Mm
    from mshv_async.host.vma import Vma

Taken = list[tuple[int, int, Pte]]


async def split_folio(host: HostMemory, folio: Folio) -> bool:
    """Split a folio; False: it is pinned, locked by somebody, mapped nowhere or gone.

    One CLEAR bracket for each VMA that maps a part, under the folio's lock and the reverse map's
    (for writing), without mmap_lock. A pin that comes later than the first look lets it fail too.
    """
    lock = await folio_trylock(host, folio.head)
    if lock is None:
        return False
    where = _mapped_at(host, folio)
    done = False
    if where is not None and host.folio(folio.head) == folio and not folio.hugetlb:
        mm = where[0]
        host.get_page(folio.head)  # keeps the folio, though all may be unmapped meanwhile
        await mm.rmap_lock.down_write()
        done = await _split(host, folio, *where)
        await mm.rmap_lock.up_write()
        await release(host, [(folio.head, folio.head + 1)])
    await folio_unlock(host, folio.head, lock)
    note("folio.split", pfn=folio.head, split=done)
    return done


def _mapped_at(host: HostMemory, folio: Folio) -> tuple[Mm, int] | None:
    """Return the address space, and the vpn at which the folio's head is or was mapped."""
    runs = host.rmap.runs(folio.head, folio.end)
    if not runs:
        return None
    pfn, _, mapping = runs[0]
    return mapping.mm, mapping.vpn - (pfn - folio.head)


async def _split(host: HostMemory, folio: Folio, mm: Mm, base: int) -> bool:
    if pinned(host, folio):
        return False
    taken: Taken = []
    await do(Op("rmap.walk", mm.vmas, base, base + folio.pages, write=False))
    for lo, hi, _ in mm.vmas.runs(base, base + folio.pages):
        if host.rmap.runs(folio.head + lo - base, folio.head + hi - base):
            await _unmap(mm, folio, base, (lo, hi), taken)
    await do(Op("folio.split", host))
    done = not pinned(host, folio)
    if done:
        dissolve(host, folio)
    await do(Op("pte.restore", mm.ptes, base, base + folio.pages))
    lost = _restore(mm, taken)
    host.migration_wait.wake_all()
    await release(host, lost)
    return done


async def _unmap(mm: Mm, folio: Folio, base: int, part: tuple[int, int], taken: Taken) -> None:
    """Put migration entries in the place of those that map the folio; their references stay."""
    lo, hi = part
    bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, NotifierEvent.CLEAR)
    await invalidate_range_start(bracket)
    await do(Op("pte.migrate", mm.ptes, lo, hi))
    for a, b, pte in mm.ptes.runs(lo, hi):
        if pte.owns_frame and pte.pfn == folio.head + a - base:
            mm.host.remove_rmap(pte.pfn, b - a)
            mm.ptes.set(a, b, Pte(PteState.MIGRATION, pte.pfn, pte.write, pte.dirty))
            probe("pte.change", mm, a, b)
            taken.append((a, b, pte._replace(order=0)))
    await do(mm.op_flush)
    await invalidate_range_end(bracket)


def _restore(mm: Mm, taken: Taken) -> Runs:
    """Map the pages again by entries, without an event; return those that lost theirs."""
    lost: Runs = []
    for lo, hi, pte in taken:
        for a, b, now in mm.ptes.pieces(lo, hi):
            then = pte.advance(a - lo)
            if now is None or now.state is not PteState.MIGRATION or now.pfn != then.pfn:
                lost.append((then.pfn, then.pfn + b - a))
                continue
            for x, y, vma in mm.vmas.pieces(a, b):
                back = _allowed(then.advance(x - a), vma)
                mm.host.add_rmap(back.pfn, y - x, mm, x)
                mm.ptes.set(x, y, back)
                probe("pte.change", mm, x, y)
    return lost


def _allowed(pte: Pte, vma: Vma | None) -> Pte:
    """Take from an entry what mprotect took from its VMA meanwhile."""
    if vma is not None and not vma.readable:
        return pte._replace(state=PteState.PROTNONE, write=False)
    return pte._replace(write=pte.write and (vma is None or vma.writable))
