"""atomic-failure: failure leaves nothing half done; success means done (bugs.md)."""

from __future__ import annotations

from typing import Any

from mshv_async.oracle.observed import PAGE_SHIFT, Observed
from mshv_async.sim import is_freed


class AtomicFailure:
    """Judged when a map ioctl returns: all of its pages have entries, or none that is its own."""

    name = "atomic-failure"
    summary = "a map ioctl that fails leaves no SLAT entry, one that succeeds leaves them all"

    def __init__(self, world: Observed) -> None:
        self.world = world
        world.rt.watch("ioctl.return", self.on_return)

    def on_return(self, thread: Any, name: str, ret: int, *args: Any) -> None:
        """Look at the SLAT over the ioctl's range."""
        del thread
        if name != "map_user_memory":
            return
        lo = args[0].guest_pfn
        hi = lo + (args[0].size >> PAGE_SHIFT)
        for a, b, entry in self.world.hv_partition.slat.pieces(lo, hi):
            if ret == 0 and entry is None:
                self._violated(f"map succeeded, but gfns {a:#x}-{b:#x} have no entry", name)
                return
            if ret < 0 and entry is not None and not self._owned(a):
                self._violated(f"map failed ({ret}), but gfns {a:#x}-{b:#x} kept entries", name)
                return

    def _owned(self, gfn: int) -> bool:
        return any(not is_freed(r) for r in self.world.owners(gfn))

    def _violated(self, what: str, name: str) -> None:
        self.world.violated(self.name, (what,), functions=(name,))
