"""pos: partial order sampling; random priorities, drawn anew at operations that conflict.

Yuan, Yang, Gu: Partial Order Aware Concurrency Sampling, CAV 2018. A pending operation keeps its
priority until it runs, or until another thread's conflicting operation does; so every order of two
conflicting operations has a fair chance, however many others lie around them.

Departures from the paper: two operations conflict by what they declare, object, range, read or
write; what else a step touches is not known before it runs. Priorities belong to chains of threads
that work for each other, and a chain keeps its own past operations on objects that the execution
does not attend to: some of the shared ones, how many is drawn (:mod:`~.probing`). So a chain comes
all the way through code that shares nothing before another one runs. Operations that ran without a
choice count like chosen ones. A retry (``yields``) loses its priority to all others, as in ``pct``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.op import conflict
from mshv_async.sim.strategies.probing import PROBES, Probing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread


class Pos(Probing):
    """Priorities by chain, of what it does next."""

    def __init__(self, seed: int, *, probes: int = PROBES, taught: bool = False) -> None:
        super().__init__(seed, probes=probes, taught=taught)
        self._priorities: dict[str, float] = {}
        self._seen = 0

    def begin(self, execution: int) -> bool:
        """Seed the execution."""
        super().begin(execution)
        self._priorities = {}
        self._seen = 0
        return True

    def choose_focus(self, shared: list[str]) -> frozenset[str]:
        """Draw how many objects to attend to, and which."""
        return frozenset(self._rng.sample(shared, 1 + self._rng.randrange(len(shared))))

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick the thread whose pending operation has the highest priority."""
        self._forget(enabled[0].rt)
        priorities = self._priorities
        if current is not None and current.op.yields:
            priorities[current.chain] = -self._rng.random()
        best, best_priority = 0, -2.0
        for index, thread in enumerate(enabled):
            chain = thread.chain
            priority = priorities.get(chain)
            if priority is None:
                priority = priorities[chain] = self._rng.random()
            if priority > best_priority:
                best, best_priority = index, priority
        return self.one_of(enabled, best, current)

    def _forget(self, rt: Runtime) -> None:
        """Drop the priorities of what ran since the last choice, and of what conflicts with it."""
        self.see(rt)
        priorities = self._priorities
        for tid, op in rt.trace[self._seen :]:
            chain = rt.all_threads[tid].chain
            if self.attends(op):
                priorities.pop(chain, None)
            if op.obj is None:
                continue
            for thread in rt.live:
                if conflict(thread.op, op) and (other := thread.chain) != chain:
                    priorities.pop(other, None)
        self._seen = len(rt.trace)
