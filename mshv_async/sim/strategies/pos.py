"""pos: partial order sampling; a random priority for each operation, new ones after a conflict.

Yuan, Yang, Gu: Partial Order Aware Concurrency Sampling, CAV 2018. A thread's pending operation
keeps its priority until it runs, or until another thread's conflicting operation does; so every
order of two conflicting operations has a fair chance, however many others lie around them.

Departures from the paper: two operations conflict by what they declare, object, range, read or
write; what else a step touches is not known before it runs. Operations that ran without a choice
count like chosen ones. A retry (``yields``) loses its priority to all others, as in ``pct``. Data
choices are benign half of the time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from mshv_async.sim.op import conflict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread


class Pos:
    """Priorities by pending operation; execution ``i`` depends on the seed and ``i`` alone."""

    exhaustive = False
    prefix = 0
    suspended = False
    records = False
    probes = 0

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._priorities: dict[int, float] = {}  # by tid, of the operation that is pending now
        self._seen = 0

    def begin(self, execution: int) -> bool:
        """Seed the execution."""
        self._rng = random.Random((self._seed << 40) ^ execution)
        self._priorities = {}
        self._seen = 0
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick the thread whose pending operation has the highest priority."""
        self._forget(enabled[0].rt)
        priorities = self._priorities
        if current is not None and current.op.yields and current.tid not in priorities:
            priorities[current.tid] = -self._rng.random()
        best, best_priority = 0, -2.0
        for index, thread in enumerate(enabled):
            priority = priorities.get(thread.tid)
            if priority is None:
                priority = priorities[thread.tid] = self._rng.random()
            if priority > best_priority:
                best, best_priority = index, priority
        return best

    def _forget(self, rt: Runtime) -> None:
        """Drop the priorities of what ran since the last choice, and of what conflicts with it."""
        priorities = self._priorities
        for tid, op in rt.trace[self._seen :]:
            priorities.pop(tid, None)
            for thread in rt.live:
                if thread.tid in priorities and conflict(thread.op, op):
                    del priorities[thread.tid]
        self._seen = len(rt.trace)

    def value(self, label: str, bound: int) -> int:
        """Pick the benign value half of the time, else uniformly."""
        del label
        if self._rng.random() < 0.5:
            return 0
        return int(self._rng.random() * bound)
