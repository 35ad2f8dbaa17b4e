"""region-ownership: live regions are disjoint in guest pages (spec.md 6.3)."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.watching import watches
from mshv_async.sim import name_of
from mshv_async.sim.spans import span


class RegionOwnership(Invariant):
    """Judged when a map ioctl returns; a region lives until its destroy returns."""

    __slots__ = ()
    invariant = "region-ownership"
    summary = "the guest pages of live regions are disjoint"

    @watches("ioctl.return")
    def on_return(self, thread: Any, name: str, ret: int, *args: Any) -> None:
        """Compare all regions with each other after a successful map."""
        del thread, args
        if name != "map_user_memory" or ret:
            return
        for a, b in combinations(self.world.alive, 2):
            lo = max(a.start_gfn, b.start_gfn)
            hi = min(a.start_gfn + a.nr_pages, b.start_gfn + b.nr_pages)
            if lo < hi:
                self.world.violated(
                    self.name,
                    (
                        f"{name_of(a)} and {name_of(b)} both own gfns {span(lo, hi)}",
                        f"{name} accepted the second although the first lives",
                    ),
                    functions=(name,),
                    objects=(name_of(a), name_of(b)),
                )
                return
