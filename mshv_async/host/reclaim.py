"""Reclaim: pages go to swap, or are dropped if MADV_FREE said so (spec.md 1.4).

Locks are the folio's and the reverse map's, not mmap_lock. A piece of the grain stands for one
folio. Without swap only lazily freed clean pages can be taken: with ``swap = 0`` reclaim of
ordinary anonymous memory finds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.host.folio import large_parts, loose
from mshv_async.host.folio_lock import folio_trylock, folio_unlock
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT
from mshv_async.host.pte import SWAP, ZERO_PFN, Pte
from mshv_async.host.split import split_folio
from mshv_async.host.zap import release
from mshv_async.sim import Op, current, do, note, probe

if TYPE_CHECKING:
    from mshv_async.host.frame import Runs
    from mshv_async.host.frames import HostMemory
    from mshv_async.host.mm import Mm


async def reclaim_pages(mm: Mm, start: int, npages: int) -> int:
    """Take back the ``npages`` pages at ``start`` (bytes) that can be; return how many were."""
    lo = start >> PAGE_SHIFT
    taken = 0
    _begin(mm.host)
    for a, b in mm.host.grain.pieces(lo, lo + npages):
        taken += await _reclaim_piece(mm, a, b)
    _end(mm.host)
    return taken


async def reclaim_some(host: HostMemory, npages: int) -> int:
    """Take back up to ``npages`` pages of any mm, a clock hand going round over mapped frames."""
    await do(Op("reclaim.scan", host))
    taken = 0
    _begin(host)
    for mm, lo, hi in _candidates(host, npages):
        for a, b in host.grain.pieces(lo, hi):
            taken += await _reclaim_piece(mm, a, b)
    if taken < npages and host.folios:
        taken += await _split_loose(host)
    _end(host)
    return taken


async def _split_loose(host: HostMemory) -> int:
    """Split folios of which parts are unmapped, which frees these (deferred split)."""
    before = host.nr_free
    for folio in loose(host):
        await split_folio(host, folio)
    return max(0, host.nr_free - before)


def _begin(host: HostMemory) -> None:
    """Mark the thread (PF_MEMALLOC): what it allocates meanwhile never reclaims."""
    host.reclaimers = (*host.reclaimers, current())


def _end(host: HostMemory) -> None:
    thread = current()
    host.reclaimers = tuple(other for other in host.reclaimers if other is not thread)


def _candidates(host: HostMemory, npages: int) -> list[tuple[Mm, int, int]]:
    hand = host.clock_hand
    found: list[tuple[Mm, int, int]] = []
    first = ZERO_PFN + 1
    for lo, hi, mapping in host.rmap.runs(hand, host.pages) + host.rmap.runs(first, hand):
        for a, b, frame in host.frames.runs(lo, hi):
            if frame.pins or not (frame.lazyfree or host.swap.slots):
                continue
            n = min(b - a, npages)
            if host.large:  # a large folio is taken as a whole
                n = min(b, max(a + n, host.folio(a + n - 1).end)) - a
            vpn = mapping.vpn + a - lo
            found.append((mapping.mm, vpn, vpn + n))
            host.clock_hand = a + n
            npages -= n
            if npages <= 0:
                return found
    return found


async def _reclaim_piece(mm: Mm, lo: int, hi: int) -> int:
    """Isolate the pages of ``[lo, hi)`` and reclaim them folio by folio."""
    await do(Op("reclaim.isolate", mm.ptes, lo, hi, write=False))
    taken = 0
    for a, b, pte in mm.ptes.runs(lo, hi):
        if pte.owns_frame and mm.host.large:
            taken += await _reclaim_mixed(mm, a, b, pte)
        elif pte.owns_frame:
            taken += await _reclaim_small(mm, a, b, pte)
    return taken


async def _reclaim_small(mm: Mm, lo: int, hi: int, pte: Pte) -> int:
    taken = 0
    for x, y in _unpinned(mm.host, pte.pfn, pte.pfn + hi - lo):
        at = lo + x - pte.pfn
        taken += await _reclaim_folio(mm, at, at + y - x, pte.advance(x - pte.pfn))
    return taken


async def _reclaim_mixed(mm: Mm, lo: int, hi: int, pte: Pte) -> int:
    """Reclaim pages of which some belong to large folios; those are split first."""
    taken = 0
    for a, b, folio in large_parts(mm.host, pte.pfn, pte.pfn + hi - lo):
        if folio is not None and not await split_folio(mm.host, folio):
            continue
        part = pte.advance(a - pte.pfn)._replace(order=0)
        taken += await _reclaim_small(mm, lo + a - pte.pfn, lo + b - pte.pfn, part)
    return taken


async def _reclaim_folio(mm: Mm, lo: int, hi: int, pte: Pte) -> int:
    folio = await folio_trylock(mm.host, pte.pfn)
    if folio is None:
        return 0
    taken = 0
    if not _pinned(mm.host, pte.pfn, hi - lo):
        slots = _swap_slots(mm.host, pte, hi - lo)
        if slots is not None:
            taken = await _unmap_folio(mm, lo, hi, pte, slots)
    await folio_unlock(mm.host, pte.pfn, folio)
    note("reclaim.page", vpn=lo, pages=hi - lo, taken_pages=taken)
    return taken


def _unpinned(host: HostMemory, lo: int, hi: int) -> Runs:
    """Return the frames of ``[lo, hi)`` without a pin, as maximal runs."""
    found: Runs = []
    for a, b, state in host.frames.runs(lo, hi):
        if state.pins:
            continue
        if found and found[-1][1] == a:
            found[-1] = (found[-1][0], b)
        else:
            found.append((a, b))
    return found


def _pinned(host: HostMemory, pfn: int, n: int) -> bool:
    return any(state.pins for _, _, state in host.frames.runs(pfn, pfn + n))


def _droppable(host: HostMemory, pte: Pte, n: int) -> bool:
    return not pte.dirty and all(s.lazyfree for _, _, s in host.frames.runs(pte.pfn, pte.pfn + n))


def _swap_slots(host: HostMemory, pte: Pte, n: int) -> Runs | None:
    """Return slots to write to, none for what may be dropped; None: swap is full."""
    return [] if _droppable(host, pte, n) else host.swap.alloc(n)


async def _unmap_folio(mm: Mm, lo: int, hi: int, pte: Pte, slots: Runs) -> int:
    """Replace the entries inside a CLEAR bracket; the pages go before its end."""
    await mm.rmap_lock.down_read()
    bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, NotifierEvent.CLEAR)
    await invalidate_range_start(bracket)
    await do(Op("pte.swap", mm.ptes, lo, hi))
    gathered, unused = _replace(mm, lo, hi, pte, slots)
    for slot_lo, slot_hi in unused:
        mm.host.swap.release(slot_lo, slot_hi)
    if gathered:
        await do(mm.op_flush)
        await release(mm.host, gathered)
    await invalidate_range_end(bracket)
    await mm.rmap_lock.up_read()
    return sum(b - a for a, b in gathered)


def _replace(mm: Mm, lo: int, hi: int, pte: Pte, slots: Runs) -> tuple[Runs, Runs]:
    """Turn entries that still map the folio into swap entries; return frames, unused slots.

    A pin that came meanwhile keeps its page, and so does a write to what was to be dropped.
    """
    host = mm.host
    gathered: Runs = []
    targets = _lay_out(lo, slots) or [(lo, hi, None)]
    unused: Runs = [] if not slots else list(slots)
    for a, b, slot in targets:
        for x, y, now in mm.ptes.runs(a, b):
            keep = not now.owns_frame or now.pfn != pte.pfn + x - lo
            if keep or _pinned(host, now.pfn, y - x):
                continue
            if slot is None and now.dirty:
                host.set_lazyfree(now.pfn, y - x, lazyfree=False)
                continue
            _replace_run(mm, x, y, now, None if slot is None else slot + x - a)
            if slot is not None:
                unused = _without(unused, slot + x - a, slot + y - a)
            gathered.append((now.pfn, now.pfn + y - x))
    return gathered, unused


def _replace_run(mm: Mm, lo: int, hi: int, pte: Pte, slot: int | None) -> None:
    host = mm.host
    n = hi - lo
    host.remove_rmap(pte.pfn, n)
    if slot is None:
        mm.ptes.clear(lo, hi)
        probe("pte.drop", mm, lo, hi)
    else:
        for a, b, tag in host.contents.runs(pte.pfn, pte.pfn + n):
            host.swap.contents.set(slot + a - pte.pfn, slot + b - pte.pfn, tag)
        mm.ptes.set(lo, hi, Pte(SWAP, slot))
    probe("pte.change", mm, lo, hi)


def _lay_out(lo: int, slots: Runs) -> list[tuple[int, int, int | None]]:
    found: list[tuple[int, int, int | None]] = []
    for slot_lo, slot_hi in slots:
        found.append((lo, lo + slot_hi - slot_lo, slot_lo))
        lo += slot_hi - slot_lo
    return found


def _without(runs: Runs, lo: int, hi: int) -> Runs:
    """Return runs less the elements ``[lo, hi)``."""
    found: Runs = []
    for a, b in runs:
        if a < min(b, lo):
            found.append((a, min(b, lo)))
        if max(a, hi) < b:
            found.append((max(a, hi), b))
    return found
