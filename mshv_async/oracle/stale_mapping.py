"""stale-mapping: no SLAT entry gives access to a page that the host took back (spec.md 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import (
    ALL_GFNS,
    PAGE_SHIFT,
    Observed,
    covers,
    gfn_of,
    gfns_behind,
    vpn_of,
)
from mshv_async.oracle.watching import watches
from mshv_async.sim import Place, RangeMap, name_of
from mshv_async.sim.spans import span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mshv_async.driver import MshvMemRegion
    from mshv_async.host import HostMemory, MmuNotifierRange
    from mshv_async.hyperv import HvPartition, SlatEntry


class StaleMapping(Invariant):
    """Judges at each freeing of a page, and for ranges under invalidation.

    From the moment the last callback of a *start* returned true until *end*, nothing of the range
    may be accessible; whenever a page is freed, no accessible entry may name it.
    """

    __slots__ = ("closed", "failure", "flushed", "refused")
    _const = (*Invariant._const, "flushed")
    invariant = "stale-mapping"
    summary = "no accessible SLAT entry names a page that the host freed or is taking back"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        # By vpn of the VMM: the brackets because of which it must be inaccessible now.
        self.closed: RangeMap[tuple[MmuNotifierRange, ...]] = RangeMap("oracle.closed")
        self.refused: tuple[MmuNotifierRange, ...] = ()
        self.failure: Place | None = None
        self.flushed = world.hv_partition.hv.slat_rules.tlb == "flushed"

    @watches("callback.return")
    def on_callback(self, mni: Any, range: MmuNotifierRange, ok: bool) -> None:
        """Remember which brackets a subscriber could not serve."""
        if not ok:
            self.refused = (*self.refused, range)
            here = self.world.rt.place()
            # Which step it was is no part of the state: what can still happen is the same.
            self.failure = Place(here.thread, 0, (mni.ops.__name__, *here.functions))

    @watches("bracket.start")
    def on_start(self, range: MmuNotifierRange, ret: int) -> None:
        """Judge the whole range, now that every callback said that it is clean."""
        if range.mm is not self.world.mm:
            return
        if ret == 0 and not any(r is range for r in self.refused):
            for lo, hi, brackets in self.closed.pieces(*_vpns(range)):
                self.closed.set(lo, hi, (*(brackets or ()), range))
            self._judge_range(range)

    @watches("bracket.end")
    def on_end(self, range: MmuNotifierRange) -> None:
        """Let the range be mapped again."""
        if range.mm is self.world.mm:
            for lo, hi, brackets in self.closed.runs(*_vpns(range)):
                left = tuple(r for r in brackets if r is not range)
                if not left:
                    self.closed.clear(lo, hi)
                elif len(left) < len(brackets):
                    self.closed.set(lo, hi, left)
        if any(r is range for r in self.refused):
            self.refused = tuple(r for r in self.refused if r is not range)

    @watches("slat.change")
    def on_slat(self, partition: HvPartition, lo: int, hi: int) -> None:
        """See to it that no range under invalidation is opened again."""
        del partition
        if not self.closed.worth_asking:
            return
        for region in self._regions():
            first, end = max(lo, region.start_gfn), min(hi, region.start_gfn + region.nr_pages)
            if first >= end:
                continue
            vpn = vpn_of(region, first)
            for a, b, brackets in self.closed.runs(vpn, vpn + end - first):
                if self._opened(region, gfn_of(region, a), gfn_of(region, b), brackets[0]):
                    return

    def _regions(self) -> Iterable[MshvMemRegion]:
        """Return the movable regions that show the VMM's memory."""
        return (r for r in self.world.movable() if r.mni.mm is self.world.mm)

    def _judge_range(self, range: MmuNotifierRange) -> None:
        for region in self._regions():
            lo, hi = gfns_behind(region, *_vpns(range))
            if lo < hi and self._opened(region, lo, hi, range):
                return

    def _opened(self, region: MshvMemRegion, lo: int, hi: int, range: MmuNotifierRange) -> bool:
        """Say so if something of ``[lo, hi)`` can be accessed."""
        for a, _, entry in self.world.hv_partition.slat.runs(lo, hi):
            if entry.rights:
                self.world.violated(
                    self.name,
                    (
                        f"gfn {a:#x} is accessible (pfn {entry.pfn:#x})",
                        f"although the host invalidated vpn {span(*_vpns(range))}",
                        "and every callback said that it is clean",
                    ),
                    objects=(name_of(region),),
                )
                return True
        return False

    @watches("guest.access")
    def on_access(self, guest: Any, kind: int, gfn: int, entry: SlatEntry, tag: Any) -> None:
        """Judge an access that may go by an old translation, which no table shows any more."""
        del kind, tag
        if self.flushed or entry.kind != "ram" or guest.vp.partition is not self.world.hv_partition:
            return
        if not self.world.host.state(entry.pfn).refs:
            why = f"page {entry.pfn:#x}, which the host freed"
        elif self._is_closed(gfn):
            why = f"page {entry.pfn:#x}, which the host is taking back"
        else:
            return
        self.world.violated(
            self.name,
            (
                f"{guest.name} reaches gfn {gfn:#x} through an old translation",
                f"that leads to {why}",
                "the hypercall that took the mapping away had returned",
            ),
            functions=("guest.access",),
            objects=(f"gfn {gfn:#x}",),
        )

    def _is_closed(self, gfn: int) -> bool:
        return any(
            covers(region, gfn) and self.closed.get(vpn_of(region, gfn)) is not None
            for region in self._regions()
        )

    @watches("frame.free")
    def on_free(self, host: HostMemory, pfn_lo: int, pfn_hi: int) -> None:
        """Judge the freed frames against all accessible entries."""
        del host
        for lo, hi, entry in self.world.hv_partition.slat.runs(0, ALL_GFNS):
            if entry.kind != "ram" or not entry.rights:
                continue
            a, b = max(entry.pfn, pfn_lo), min(entry.pfn + hi - lo, pfn_hi)
            if a < b:
                gfn = lo + a - entry.pfn
                self.world.violated(
                    self.name,
                    (
                        f"page {a:#x} is freed, gfn {gfn:#x} maps it (rights {entry.rights:#x})",
                        "the guest can reach what the host gives to others",
                    ),
                    objects=(f"gfn {gfn:#x}",),
                    other=self.failure,
                )
                return


def _vpns(range: MmuNotifierRange) -> tuple[int, int]:
    return range.start >> PAGE_SHIFT, range.end >> PAGE_SHIFT
