"""urw: a random walk in which each order of the operations on one object is equally likely.

Zhao, Wolff, Mathur, Roychoudhury: Selectively Uniform Concurrency Testing, ASPLOS 2025. A plain
random walk lets a short thread run among the first steps of a long one nearly always. Here the
thread that comes next to the object is drawn in proportion to the operations on it that each still
has to do; until it has come, nobody else may touch the object, and everything else may run.

Departures from the paper: the interesting object is drawn for each execution among those that the
probing executions found shared (:mod:`~.probing`), and the work that each has to do on it is the
average of those; chains of threads that work for each other count as one. Who runs among those
that may is decided by a random priority for each chain, not at every step, or else a long stretch
without interesting operations would never pass before another thread's. Where the drawn one cannot
come, as it waits for who may not go on, another is drawn. A chain that has outlived its estimate,
or that the probes did not have, keeps a small weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.strategies.probing import PROBES, Probing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread

#: The weight of a chain that has nothing left to do on the object, as far as is known.
LEAST_WEIGHT = 0.3


class Urw(Probing):
    """Weights and priorities by chain."""

    def __init__(self, seed: int, *, probes: int = PROBES, taught: bool = False) -> None:
        super().__init__(seed, probes=probes, taught=taught)
        self._left: dict[str, float] = {}
        self._priorities: dict[str, float] = {}
        self._floor = 0.0
        self._next = ""  # the chain that comes next to the object
        self._seen = 0

    def begin(self, execution: int) -> bool:
        """Seed the execution and look up the work that each chain has on the object."""
        super().begin(execution)
        self._left = self.contention.work(self.focus)
        self._priorities = {}
        self._floor = 0.0
        self._next = ""
        self._seen = 0
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick among those that do not touch the object, and the one that comes next to it."""
        rt = enabled[0].rt
        self.see(rt)
        self._count(rt)
        if current is not None and current.op.yields:
            self._give_way(current.chain)
        chains = [thread.chain for thread in enabled]
        if not self._next:
            self._draw(rt, chains)
        may = [
            index
            for index, thread in enumerate(enabled)
            if chains[index] == self._next or not self.attends(thread.op)
        ]
        if not may:
            self._next = ""
            may = list(range(len(enabled)))
        best = max(may, key=lambda index: self._priority(chains[index]))
        return self.one_of(enabled, best, current, may)

    def _count(self, rt: Runtime) -> None:
        """Take what ran since the last choice off the work that is left."""
        for tid, op in rt.trace[self._seen :]:
            if self.attends(op):
                chain = rt.all_threads[tid].chain
                self._left[chain] = self._left.get(chain, 0.0) - 1
                if chain == self._next:
                    self._next = ""
        self._seen = len(rt.trace)

    def _draw(self, rt: Runtime, enabled: Sequence[str]) -> None:
        chains = sorted({t.chain for t in rt.live if not t.daemon}.union(enabled))
        weights = [max(self._left.get(chain, 0.0), LEAST_WEIGHT) for chain in chains]
        self._next = self._rng.choices(chains, weights)[0]

    def _priority(self, chain: str) -> float:
        priority = self._priorities.get(chain)
        if priority is None:
            priority = self._priorities[chain] = self._rng.random()
        return priority

    def _give_way(self, chain: str) -> None:
        self._floor -= 1.0
        self._priorities[chain] = self._floor
        if self._next == chain:
            self._next = ""
