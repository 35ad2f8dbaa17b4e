"""teardown-clean: outside live regions nothing is accessible (spec.md 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.driver import MshvMemRegion
from mshv_async.oracle.observed import Observed
from mshv_async.sim import name_of

if TYPE_CHECKING:
    from mshv_async.hyperv import HvPartition


class TeardownClean:
    """Judged at each change of the table and whenever a region is freed."""

    name = "teardown-clean"
    summary = "guest pages outside live regions are never accessible"

    def __init__(self, world: Observed) -> None:
        self.world = world
        world.rt.watch("slat.change", self.on_slat)
        world.rt.watch("object.free", self.on_free)

    def on_slat(self, partition: HvPartition, lo: int, hi: int) -> None:
        """Entries that become accessible must belong to somebody."""
        for a, b, entry in partition.slat.runs(lo, hi):
            if entry.rights and not self.world.owners(a):
                self._violated(a, b, "became accessible, but no region owns them")
                return

    def on_free(self, obj: Any) -> None:
        """See to it that a region that goes leaves nothing accessible but what others own."""
        if not isinstance(obj, MshvMemRegion):
            return
        lo, hi = obj.start_gfn, obj.start_gfn + obj.nr_pages
        for a, b, entry in self.world.hv_partition.slat.runs(lo, hi):
            others = [r for r in self.world.owners(a) if r is not obj]
            if entry.rights and not others:
                self._violated(a, b, f"stay accessible after {name_of(obj)} is destroyed")
                return

    def _violated(self, lo: int, hi: int, what: str) -> None:
        self.world.violated(self.name, (f"gfns {lo:#x}-{hi:#x} {what}",))
