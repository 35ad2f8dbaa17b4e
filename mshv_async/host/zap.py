"""Clearing page-table entries and releasing what they held (spec.md 1.4, steps 3 to 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.host.huge import stand_at_piece
from mshv_async.host.pte import SWAP
from mshv_async.sim import Op, do, probe

if TYPE_CHECKING:
    from mshv_async.host.frame import Runs
    from mshv_async.host.frames import HostMemory
    from mshv_async.host.mm import Mm


async def zap_range(mm: Mm, lo: int, hi: int) -> int:
    """Clear the entries of the vpns, flush, and release the pages; return how many were there.

    Runs inside a bracket that the caller opened. One step for each piece of the grain, then one
    for the flush and one for the release. Leaves that stick out are split first.
    """
    gathered: Runs = []
    zapped = 0
    if not mm.host.large:
        for a, b in mm.host.grain.pieces(lo, hi):
            await do(Op("pte.zap", mm.ptes, a, b))
            zapped += _clear_entries(mm, a, b, gathered)
    else:
        at = lo
        while at < hi:
            end = await stand_at_piece(mm, "pte.zap", at, hi)
            zapped += _clear_entries(mm, at, end, gathered)
            at = end
    if zapped:
        await do(mm.op_flush)
    await release(mm.host, gathered)
    return zapped


async def release(host: HostMemory, gathered: Runs) -> None:
    """Drop the mappings' references on frames whose entries are gone; a step if there are any."""
    if gathered:
        await do(Op("page.free", host))
        for pfn_lo, pfn_hi in gathered:
            host.put_page(pfn_lo, pfn_hi - pfn_lo)


def _clear_entries(mm: Mm, lo: int, hi: int, gathered: Runs) -> int:
    zapped = 0
    for a, b, pte in mm.ptes.runs(lo, hi):
        if pte.owns_frame:
            mm.host.remove_rmap(pte.pfn, b - a)
            gathered.append((pte.pfn, pte.pfn + b - a))
        elif pte.state is SWAP:
            mm.host.swap.release(pte.pfn, pte.pfn + b - a)
        mm.ptes.clear(a, b)
        zapped += b - a
        probe("pte.change", mm, a, b)
        probe("pte.discard", mm, a, b)
    return zapped
