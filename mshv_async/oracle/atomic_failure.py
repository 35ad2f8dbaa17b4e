"""atomic-failure: failure leaves nothing half done; success means done (bugs.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import PAGE_SHIFT, Observed
from mshv_async.oracle.watching import watches
from mshv_async.sim import SharedDict
from mshv_async.sim.spans import span

if TYPE_CHECKING:
    from mshv_async.driver import MshvUserMemRegion
    from mshv_async.sim import Thread


class AtomicFailure(Invariant):
    """Judged when a map ioctl returns: all of its pages have entries, or none that is its own."""

    __slots__ = ("before",)
    invariant = "atomic-failure"
    summary = "a map ioctl that fails leaves no SLAT entry, one that succeeds leaves them all"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.before: SharedDict[str, tuple[tuple[int, int], ...]] = SharedDict(
            "oracle.before", listed=False
        )  # by thread: gfns that had entries

    @watches("ioctl.begin")
    def on_begin(self, thread: Thread, name: str, *args: Any) -> None:
        """Remember what an earlier region left behind in the range."""
        if name == "map_user_memory":
            runs = self.world.hv_partition.slat.runs(*gfns_of(args[0]))
            self.before[thread.name] = tuple((lo, hi) for lo, hi, _ in runs)

    @watches("ioctl.return")
    def on_return(self, thread: Thread, name: str, ret: int, *args: Any) -> None:
        """Look at the SLAT over the ioctl's range."""
        if name != "map_user_memory":
            return
        before = self.before.pop(thread.name) or ()
        for a, b, entry in self.world.hv_partition.slat.pieces(*gfns_of(args[0])):
            if ret == 0 and entry is None:
                self._violated(f"map succeeded, but gfns {span(a, b)} have no entry", name)
                return
            left_over = any(lo <= a and b <= hi for lo, hi in before)
            if ret < 0 and entry is not None and not left_over and not self.world.owners(a):
                self._violated(f"map failed ({ret}), but gfns {span(a, b)} kept entries", name)
                return

    def _violated(self, what: str, name: str) -> None:
        self.world.violated(self.name, (what,), functions=(name,))


def gfns_of(mem: MshvUserMemRegion) -> tuple[int, int]:
    """Return first and end gfn of an ioctl's argument."""
    return mem.guest_pfn, mem.guest_pfn + (mem.size >> PAGE_SHIFT)
