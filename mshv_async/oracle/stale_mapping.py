"""stale-mapping: no SLAT entry gives access to a page that the host took back (spec.md 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.oracle.observed import ALL_GFNS, PAGE_SHIFT, Observed, gfns_behind
from mshv_async.sim import Place, name_of
from mshv_async.sim.spans import span

if TYPE_CHECKING:
    from mshv_async.host import HostMemory, MmuNotifierRange
    from mshv_async.hyperv import HvPartition, SlatEntry


class StaleMapping:
    """Judges at each freeing of a page, and for ranges under invalidation.

    From the moment the last callback of a *start* returned true until *end*, nothing of the range
    may be accessible; whenever a page is freed, no accessible entry may name it.
    """

    name = "stale-mapping"
    summary = "no accessible SLAT entry names a page that the host freed or is taking back"

    def __init__(self, world: Observed) -> None:
        self.world = world
        self.closed: list[MmuNotifierRange] = []  # ranges that must be inaccessible now
        self.refused: list[MmuNotifierRange] = []
        self.failure: Place | None = None
        rt = world.rt
        rt.watch("frame.free", self.on_free)
        rt.watch("callback.return", self.on_callback)
        rt.watch("bracket.start", self.on_start)
        rt.watch("bracket.end", self.on_end)
        rt.watch("slat.change", self.on_slat)
        if world.hv_partition.hv.slat_rules.tlb != "flushed":
            rt.watch("guest.access", self.on_access)

    def on_callback(self, mni: Any, range: MmuNotifierRange, ok: bool) -> None:
        """Remember which brackets a subscriber could not serve."""
        if not ok:
            self.refused = [*self.refused, range]
            here = self.world.rt.place()
            # Which step it was is no part of the state: what can still happen is the same.
            self.failure = Place(here.thread, 0, (mni.ops.__name__, *here.functions))

    def on_start(self, range: MmuNotifierRange, ret: int) -> None:
        """Judge the whole range, now that every callback said that it is clean."""
        if range.mm is not self.world.mm:
            return
        if ret == 0 and not any(r is range for r in self.refused):
            self.closed = [*self.closed, range]
            self._judge_range(range, None)

    def on_end(self, range: MmuNotifierRange) -> None:
        """Let the range be mapped again."""
        self.closed = [r for r in self.closed if r is not range]
        self.refused = [r for r in self.refused if r is not range]

    def on_slat(self, partition: HvPartition, lo: int, hi: int) -> None:
        """See to it that no range under invalidation is opened again."""
        del partition
        for closed in self.closed:
            self._judge_range(closed, (lo, hi))

    def _judge_range(self, range: MmuNotifierRange, changed: tuple[int, int] | None) -> None:
        for region in self.world.movable():
            if region.mni.mm is not range.mm:
                continue
            lo, hi = gfns_behind(region, range.start >> PAGE_SHIFT, range.end >> PAGE_SHIFT)
            if changed is not None:
                lo, hi = max(lo, changed[0]), min(hi, changed[1])
            if lo >= hi:
                continue
            for a, _, entry in self.world.hv_partition.slat.runs(lo, hi):
                if entry.rights:
                    self.world.violated(
                        self.name,
                        (
                            f"gfn {a:#x} is accessible (pfn {entry.pfn:#x})",
                            "although the host invalidated"
                            f" vpn {span(range.start >> 12, range.end >> 12)}",
                            "and every callback said that it is clean",
                        ),
                        objects=(name_of(region),),
                    )
                    return

    def on_access(self, guest: Any, kind: int, gfn: int, entry: SlatEntry, tag: Any) -> None:
        """Judge an access that may go by an old translation, which no table shows any more."""
        del kind, tag
        if entry.kind != "ram" or guest.vp.partition is not self.world.hv_partition:
            return
        if not self.world.host.state(entry.pfn).refs:
            why = f"page {entry.pfn:#x}, which the host freed"
        elif any(self._closes(closed, gfn) for closed in self.closed):
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

    def _closes(self, range: MmuNotifierRange, gfn: int) -> bool:
        for region in self.world.movable():
            lo, hi = gfns_behind(region, range.start >> PAGE_SHIFT, range.end >> PAGE_SHIFT)
            if region.mni.mm is range.mm and lo <= gfn < hi:
                return True
        return False

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
