"""rights: the SLAT gives no more than the region has (spec.md 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.watching import watches
from mshv_async.sim import name_of
from mshv_async.sim.spans import span

if TYPE_CHECKING:
    from mshv_async.hyperv import HvPartition

_RIGHTS = 0xF


class Rights(Invariant):
    """Judged at each change of the table. The VMA's rights are the business of coherence."""

    __slots__ = ()
    invariant = "rights"
    summary = "the rights of a SLAT entry are within those of its region"

    @watches("slat.change")
    def on_slat(self, partition: HvPartition, lo: int, hi: int) -> None:
        """Compare the changed entries with the regions that own them."""
        for a, b, entry in partition.slat.runs(lo, hi):
            if not entry.rights:
                continue
            for region in self.world.owners(a):
                extra = entry.rights & ~region.hv_map_flags & _RIGHTS
                if extra:
                    self.world.violated(
                        self.name,
                        (
                            f"gfns {span(a, b)} get rights {entry.rights:#x}",
                            f"{name_of(region)} has {region.hv_map_flags & _RIGHTS:#x}",
                        ),
                        objects=(name_of(region),),
                    )
                    return
