"""What all invariants have in common: a name, the world, and state that reports itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from mshv_async.oracle.watching import watched
from mshv_async.sim import Shared
from mshv_async.sim.current import instrumented
from mshv_async.sim.shared import model_class

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.oracle.observed import Observed


class Invariant(Shared):
    """One property of a world; what it keeps from step to step stands in slots.

    Whether two steps can change places depends on that too: a slot is one place, written only if
    it changes; what belongs to a page or a thread is kept in a map, by range or key.
    """

    __slots__ = ("world",)
    _const: ClassVar[tuple[str, ...]] = ("world",)
    invariant: ClassVar[str]
    summary: ClassVar[str] = ""

    def __init__(self, world: Observed) -> None:
        if instrumented.get():
            super().__init__(self.invariant)
        else:  # the same without the call: a world has a score
            self.name = self.invariant
            self._grave = None
        self.world = world


class LateInvariant(Invariant):
    """One that has little to look at before something happened: ``watching`` says it has.

    Until then its late watchers cost nothing. Where footprints are taken they are called all the
    same, since that they had nothing to look at is something that a step depends on.
    """

    __slots__ = ("_listens", "watching")
    _not_state: ClassVar[tuple[str, ...]] = ("_listens",)

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.watching = False
        self._listens = True  # whoever attaches it looks whether set-up left anything to watch

    def attached(self) -> None:
        """Note that it was subscribed: to the late facts as well, if it watches already."""
        self._listens = self.watching

    def begin_watching(self) -> None:
        """Watch from now on."""
        if not self.watching:
            self.watching = True
            self.listen()

    def listen(self) -> None:
        """Subscribe to the late facts, once."""
        if not self._listens:
            self._listens = True
            for fact, name in watched(model_class(self), late=True):
                watcher = getattr(self, name)
                known = self.watching
                self.world.rt.watch(fact, watcher if known else _WhileWatching(self, watcher))


class _WhileWatching:
    """Passes facts on once there is something to watch."""

    __slots__ = ("invariant", "watcher")

    def __init__(self, invariant: LateInvariant, watcher: Callable[..., None]) -> None:
        self.invariant = invariant
        self.watcher = watcher

    def __call__(self, *args: Any) -> None:
        if self.invariant.watching:
            self.watcher(*args)
