"""coherence: accessible SLAT entries agree with the VMM's page table (spec.md 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import (
    ALL_GFNS,
    PAGE_SHIFT,
    Observed,
    covers,
    gfns_behind,
    vpn_of,
)
from mshv_async.oracle.watching import watches
from mshv_async.sim import RangeMap, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mshv_async.driver import MshvMemRegion
    from mshv_async.host import Mm, MmuNotifierRange, Pte
    from mshv_async.hyperv import HvPartition, SlatEntry

_WRITE_RIGHT = 0x2


class Coherence(Invariant):
    """With no bracket open, each accessible entry of a movable region names the page that the
    VMM's present entry names, and a writable one a writable one.
    """  # noqa: D205

    __slots__ = ("fresh", "gfns", "open", "quiet_again")
    _not_state = ("fresh", "quiet_again")  # empty between two steps
    invariant = "coherence"
    summary = "accessible SLAT entries equal the VMM's present page-table entries when quiescent"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.open: tuple[MmuNotifierRange, ...] = ()
        # What changed since the last quiescent moment and is to be looked at in the next one: as
        # long as it differs, so that the set says nothing that the tables do not say.
        self.gfns: RangeMap[bool] = RangeMap("oracle.differing_gfns")
        self.fresh: list[tuple[bool, int, int]] = []  # changed in this step; whether in the VMM
        self.quiet_again = False  # the last bracket was closed in this step

    @watches("bracket.begin")
    def on_begin(self, range: MmuNotifierRange) -> None:
        """Note that a bracket opens."""
        if range.mm is self.world.mm:
            self.open = (*self.open, range)

    @watches("bracket.start")
    def on_start(self, range: MmuNotifierRange, ret: int) -> None:
        """End the bracket of a start that was refused."""
        if ret:
            self.on_end(range)

    @watches("bracket.end")
    def on_end(self, range: MmuNotifierRange) -> None:
        """Look whether all is quiet, now that a bracket closes."""
        if range.mm is not self.world.mm:
            return
        self.open = tuple(r for r in self.open if r is not range)
        self.quiet_again = True
        self.world.rt.judge_later(self.judge)

    @watches("slat.change")
    def on_slat(self, partition: HvPartition, lo: int, hi: int) -> None:
        """Remember what changed in the table."""
        if partition is self.world.hv_partition:
            self._changed(False, lo, hi)

    @watches("pte.change")
    def on_pte(self, mm: Mm, lo: int, hi: int) -> None:
        """Remember what changed in the VMM."""
        if mm is self.world.mm:
            self._changed(True, lo, hi)

    def _changed(self, in_vmm: bool, lo: int, hi: int) -> None:
        self.fresh.append((in_vmm, lo, hi))
        self.world.rt.judge_later(self.judge)

    def judge(self) -> None:
        """Compare what changed; while a bracket is open only remember what differs."""
        fresh, self.fresh = self.fresh, []
        again, self.quiet_again = self.quiet_again, False
        gfns = [(lo, hi) for in_vmm, lo, hi in fresh if not in_vmm]
        vpns = [(lo, hi) for in_vmm, lo, hi in fresh if in_vmm]
        if self.open:
            behind = [gfns_behind(r, lo, hi) for lo, hi in vpns for r in self.world.alive]
            for lo, hi in _union(gfns + [(lo, hi) for lo, hi in behind if lo < hi]):
                self._remember(lo, hi)
            return
        if again:
            gfns += self._taken()
        gfns, vpns = _union(gfns), _union(vpns)
        for region in self.world.movable():
            ranges = [gfns_behind(region, lo, hi) for lo, hi in vpns]
            end = region.start_gfn + region.nr_pages
            ranges += [(max(lo, region.start_gfn), min(hi, end)) for lo, hi in gfns]
            for lo, hi in ranges:
                if lo < hi and self._differs(region, lo, hi):
                    return

    def _remember(self, lo: int, hi: int) -> None:
        """Note which accessible gfns of ``[lo, hi)`` differ, or lie in no single region."""
        if self.gfns.runs(lo, hi):
            self.gfns.clear(lo, hi)
        for a, b, entry in self.world.hv_partition.slat.runs(lo, hi):
            if entry.kind != "ram" or not entry.rights:
                continue
            around = [r for r in self.world.alive if covers(r, a) and covers(r, b - 1)]
            if not around:
                self.gfns.set(a, b, True)
            for region in around:
                for gfn, end, _, how in self._differences(region, a, b, entry):
                    if how:
                        self.gfns.set(gfn, end, True)

    def _taken(self) -> list[tuple[int, int]]:
        ranges = [(lo, hi) for lo, hi, _ in self.gfns.runs(0, ALL_GFNS)]
        if ranges:
            self.gfns.clear(0, ALL_GFNS)
        return ranges

    def _differs(self, region: MshvMemRegion, lo: int, hi: int) -> bool:
        for a, b, entry in self.world.hv_partition.slat.runs(lo, hi):
            if entry.kind != "ram" or not entry.rights:
                continue
            for gfn, _, pte, how in self._differences(region, a, b, entry):
                if how:
                    self._report(region, gfn, entry.advance(gfn - a), pte, how)
                    return True
        return False

    def _differences(
        self, region: MshvMemRegion, lo: int, hi: int, entry: SlatEntry
    ) -> Iterator[tuple[int, int, Pte | None, str]]:
        """Yield the gfns of a run of accessible entries with what is behind and how it differs."""
        vpn = vpn_of(region, lo)
        for x, y, pte in self.world.mm.ptes.pieces(vpn, vpn + hi - lo):
            how = ""
            if pte is None or not pte.present or pte.pfn != entry.pfn + x - vpn:
                how = "maps another page"
            elif entry.rights & _WRITE_RIGHT and not pte.write:
                how = "is writable"
            yield lo + x - vpn, lo + y - vpn, pte, how

    def _report(self, region: MshvMemRegion, gfn: int, entry: Any, pte: Any, how: str) -> None:
        there = "nothing"
        if pte is not None:
            there = f"{pte.state.name.lower()}, pfn {pte.pfn:#x}, {'rw' if pte.write else 'ro'}"
        self.world.violated(
            self.name,
            (
                f"gfn {gfn:#x} {how}: SLAT pfn {entry.pfn:#x} rights {entry.rights:#x}",
                f"the VMM's entry at {vpn_of(region, gfn) << PAGE_SHIFT:#x} is {there}",
                "although no invalidation is under way",
            ),
            objects=(name_of(region),),
        )


def _union(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges sorted and merged, so that each page is compared once."""
    if len(ranges) < 2:
        return ranges
    merged: list[tuple[int, int]] = []
    for a, b in sorted(ranges):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return merged
