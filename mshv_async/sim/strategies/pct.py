"""pct: random priorities, lowered at a few random points.

Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with Probabilistic Guarantees
of Finding Bugs, ASPLOS 2010.

Departures from the paper: the length k of an execution is measured, as the longest of the first
executions, not asked for, and counts only decisions between several threads; a thread that offers
the processor (a retry, ``cond_resched``) also falls to the lowest priority, or else two threads of
which one waits for the other in a loop would never end; threads that are created later get a
random priority among the initial ones; the bug depth d of an execution is drawn from 1 … ``depth``
so that shallow and deep bugs both get their share; data choices are uniform with the probability
of a failure halved, since most sites must succeed for an execution to get anywhere.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


PROBES = 24
"""Executions that the length is measured on."""


class Pct:
    """Priorities by thread; execution ``i`` depends on the seed, ``i`` and the first few ones.

    ``length``: what is known of the number of decisions before any was measured.
    """

    exhaustive = False
    prefix = 0
    suspended = False
    records = False
    probes = PROBES + 1

    def __init__(self, seed: int, depth: int = 4, length: int = 2) -> None:
        self._seed = seed
        self._depth = depth
        self._least = length
        self._rng = random.Random(seed)
        self._length = 2
        self._decisions = 0
        self._priorities: dict[int, float] = {}
        self._changes: set[int] = set()  # membership only
        self._floor = 0.0

    def begin(self, execution: int) -> bool:
        """Draw priorities and change points."""
        if execution == 0:
            self._length = self._least
        elif execution <= PROBES:
            self._length = max(self._length, self._decisions)
        self._rng = rng = random.Random((self._seed << 40) ^ execution)
        self._priorities = {}
        self._decisions = 0
        self._floor = 0.0
        points = rng.randrange(self._depth)
        self._changes = {rng.randrange(self._length) for _ in range(points)}
        return True

    @property
    def length(self) -> int:
        """The measured number of decisions of an execution."""
        return self._length

    def _lower(self, thread: Thread) -> None:
        self._floor -= 1.0
        self._priorities[thread.tid] = self._floor

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick the thread of the highest priority."""
        priorities = self._priorities
        best, best_priority = 0, -1e18
        if current is not None and current.op.yields:
            self._lower(current)
        for index, thread in enumerate(enabled):
            priority = priorities.get(thread.tid)
            if priority is None:
                priority = priorities[thread.tid] = 1.0 + self._rng.random()
            if priority > best_priority:
                best, best_priority = index, priority
        if self._decisions in self._changes:
            self._lower(enabled[best])
            self._decisions += 1
            return self.pick(enabled, None)
        self._decisions += 1
        return best

    def value(self, label: str, bound: int) -> int:
        """Pick the benign value half of the time, else uniformly."""
        del label
        if self._rng.random() < 0.5:
            return 0
        return int(self._rng.random() * bound)
