"""stateful: every reachable state, depth first; a path ends where the state was seen before.

The plain form of explicit-state search with depth-first re-execution. Each decision between
threads first takes the key of the whole state (:mod:`mshv_async.sim.statekey`); a key that was
met before is not explored again, since all that can follow from it was explored, or will be when
the search comes back along the path on which it was met first. Data choices have no key of their
own: they are branches of the step that makes them.

With a bound on preemptions, what is left of it is part of the state, and so is who ran last: a
state is met again only if it had as much left the time before.

A cycle of states is cut where it closes. So endless executions are not seen here: what this
search exhausts holds of all executions that end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.statekey import state_key
from mshv_async.sim.strategies.dfs import Dfs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread

SEEN = -1
"""What ``pick`` returns instead of an index: this state was explored, end the execution."""


class Stateful(Dfs):
    """Enumerates states; ``states`` counts those at which there was a choice."""

    suspended = True

    def __init__(self, preemptions: int | None = None) -> None:
        super().__init__(preemptions)
        self._left: dict[bytes, int] = {}  # preemptions left at the best visit

    @property
    def states(self) -> int:
        """Return how many distinct states had a choice of threads."""
        return len(self._left)

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Follow the path; then go on from a new state, the current thread first."""
        if self.repeating:
            return super().pick(enabled, current)
        rt = enabled[0].rt
        bounded = self._limit is not None
        key = state_key(rt, rt.roots(), rt.opaque, current=bounded)
        left = self._limit - self._spent if self._limit is not None else 0
        if self._left.get(key, -1) >= left:
            return SEEN
        self._left[key] = left
        return super().pick(enabled, current)
