"""access-not-absent: a guest page of a live movable region always has an entry (bugs.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import is_movable
from mshv_async.oracle.watching import watches
from mshv_async.sim import name_of
from mshv_async.sim.spans import span

if TYPE_CHECKING:
    from mshv_async.hyperv import HvPartition


class AccessNotAbsent(Invariant):
    """Judged at each change of the table, from the map's return to the unmap's start.

    An absent entry makes the guest's touch an UNMAPPED_GPA, which no version handles.
    """

    __slots__ = ()
    invariant = "access-not-absent"
    summary = "a gfn of a live movable region is accessible or NO_ACCESS, never absent"

    @watches("slat.change")
    def on_slat(self, partition: HvPartition, lo: int, hi: int) -> None:
        """Look for holes in the changed part of each mapped region; not once all is destroyed."""
        if not self.world.partition.pt_ref_count.count:
            return
        for region in self.world.mapped:
            if not is_movable(region):
                continue
            a = max(lo, region.start_gfn)
            b = min(hi, region.start_gfn + region.nr_pages)
            for x, y, entry in partition.slat.pieces(a, b) if a < b else ():
                if entry is None:
                    self.world.violated(
                        self.name,
                        (
                            f"gfns {span(x, y)} of {name_of(region)} lost their entries",
                            "a touch there is UNMAPPED_GPA, which is not handled",
                        ),
                        objects=(name_of(region),),
                    )
                    return
