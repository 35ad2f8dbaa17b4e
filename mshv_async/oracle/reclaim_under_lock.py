"""reclaim-under-lock: no allocation that may reclaim under a callback's lock (spec.md 6.2, F1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import Observed
from mshv_async.oracle.watching import watches
from mshv_async.sim import SharedDict, current, name_of
from mshv_async.sim.verdicts import kind_of

if TYPE_CHECKING:
    from mshv_async.sim import Thread

_MAY_RECLAIM = "kernel"


class ReclaimUnderLock(Invariant):
    """Judged when a sleeping allocation enters the allocator.

    Reclaim calls back for the pages that it takes, and the callback wants its lock: with the
    right page picked the thread waits for itself. A lock counts if it is a region's mutex, or of
    a class that a callback was seen to take. What it finds is noted and ends no execution, since
    here the pages that were picked were others.
    """

    __slots__ = ("classes", "inside")
    invariant = "reclaim-under-lock"
    summary = "no allocation that may reclaim is made under a lock that a callback takes"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.classes: tuple[str, ...] = ("region.mutex",)
        # By thread: locks held when a callback began.
        self.inside: SharedDict[str, tuple[Any, ...]] = SharedDict("oracle.inside", listed=False)

    @watches("callback.enter")
    def on_enter(self, mni: Any, range: Any) -> None:
        """Remember what the thread brings along."""
        del mni, range
        thread = current()
        self.inside[thread.name] = tuple(thread.held)

    @watches("callback.return")
    def on_return(self, mni: Any, range: Any, ok: bool) -> None:
        """Learn nothing more from this callback."""
        del mni, range, ok
        self.inside.pop(current().name)

    @watches("lock.release")
    def on_release(self, lock: Any) -> None:
        """Learn the class of a lock that a callback took."""
        if not self.inside.worth_asking or lock.cls in self.classes:
            return
        brought = self.inside.get(current().name)
        if brought is not None and not any(held is lock for held in brought):
            self.classes = tuple(sorted((*self.classes, lock.cls)))

    @watches("page.alloc")
    def on_alloc(self, host: Any, site: str, gfp: str) -> None:
        """Look at what the allocating thread holds."""
        del host
        thread = current()
        if gfp != _MAY_RECLAIM or not thread.held:
            return
        for lock in thread.held:
            if lock.cls in self.classes:
                self._violated(thread, lock, site)
                return

    def _violated(self, thread: Thread, lock: Any, site: str) -> None:
        self.world.violated(
            self.name,
            (
                f"{thread.name} allocates for {site} and may reclaim, holding {name_of(lock)}",
                f"a callback that reclaim causes takes a lock of the class {lock.cls}",
                "if the page picked is this region's, the thread waits for itself",
            ),
            about=kind_of(lock),
            objects=(name_of(lock),),
        )
