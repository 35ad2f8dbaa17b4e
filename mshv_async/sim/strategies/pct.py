"""pct: random priorities, lowered at a few random points.

Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with Probabilistic Guarantees
of Finding Bugs, ASPLOS 2010.

Departures from the paper. Length and depth are not asked for but measured, in the probing
executions. The length is the most operations that one of them had on the object which an execution
attends to: a priority changes only before such an operation (:mod:`~.probing`), as it is the order
of those that a bug depends on. The depth is the largest number of change points that still brought
an order of two conflicting operations which fewer did not. Each execution draws its number of
points from 1 to the depth. Priorities belong to chains of threads that work for each other. One
that offers the processor (a retry, ``cond_resched``) also falls to the lowest priority, or else two
threads of which one waits for the other in a loop would never end; a chain that comes later gets a
random priority among the initial ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.orders import ordered_pairs
from mshv_async.sim.strategies.probing import PROBES, Probing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.op import Op
    from mshv_async.sim.orders import OrderedPair
    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread

DEEPEST = 5
"""Probing executions try up to so many change points."""


class Pct(Probing):
    """Priorities by chain. ``length``: the decisions of an execution, before any was measured.

    ``depth``: the measured depth, the largest number of change points worth having, at least 1.
    """

    def __init__(
        self, seed: int, length: int = 2, *, probes: int = PROBES, taught: bool = False
    ) -> None:
        super().__init__(seed, probes=probes, taught=taught)
        self._least = length
        self._depths: dict[OrderedPair, int] = {}
        self.depth = 1
        self._points = 0
        self._changes: set[int] = set()  # membership only
        self._priorities: dict[str, float] = {}
        self._floor = 0.0
        self._seen = 0
        self._passed = 0

    def begin(self, execution: int) -> bool:
        """Draw the change points."""
        super().begin(execution)
        rng = self._rng
        if self.probing:
            self._points = rng.randrange(DEEPEST + 1)
        else:
            self._points = 1 + rng.randrange(self.depth)
        length = max(self.contention.longest(self.focus), self._least)
        self._changes = {rng.randrange(length) for _ in range(self._points)}
        self._priorities = {}
        self._floor = 0.0
        self._seen = self._passed = 0
        return True

    def forget(self) -> None:
        """Forget what was learnt."""
        super().forget()
        self._depths = {}
        self.depth = 1

    def learn(self, rt: Runtime, *, own: bool = True) -> None:
        """Remember with how few change points each order was seen."""
        super().learn(rt)
        if own:
            for pair in ordered_pairs(rt):
                self._depths[pair] = min(self._depths.get(pair, DEEPEST), self._points)
            self.depth = max(self._depths.values(), default=1) or 1

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick the thread of the highest priority, unless it falls just here."""
        if self._watches:
            self.see(enabled[0].rt)
        if current is not None and current.op.yields:
            self._lower(current)
        best, several = self._highest(enabled)
        if self._changes and self.attends(enabled[best].op):
            self._count(enabled[best].rt.trace)
            if self._passed in self._changes:
                self._changes.discard(self._passed)
                self._lower(enabled[best])
                best, several = self._highest(enabled)
        return self.one_of(enabled, best, current) if several else best

    def _count(self, trace: list[tuple[int, Op]]) -> None:
        """Count the operations on objects of the focus that came since it was last asked for."""
        focus = self.focus
        if focus:
            self._passed += sum(op.object_name in focus for _, op in trace[self._seen :])
            self._seen = len(trace)
        else:
            self._passed = len(trace)

    def _highest(self, enabled: Sequence[Thread]) -> tuple[int, bool]:
        """Return who is first of the highest chain, and whether more of it can run."""
        priorities = self._priorities
        best, best_priority, best_chain = 0, -1e18, ""
        several = False
        for index, thread in enumerate(enabled):
            chain = thread.chain
            priority = priorities.get(chain)
            if priority is None:
                priority = priorities[chain] = 1.0 + self._rng.random()
            if priority > best_priority:
                best, best_priority, best_chain = index, priority, chain
                several = False
            elif chain == best_chain:
                several = True
        return best, several

    def _lower(self, thread: Thread) -> None:
        self._floor -= 1.0
        self._priorities[thread.chain] = self._floor
