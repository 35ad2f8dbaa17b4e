"""descent: one random path down the tree that dfs would search, weighed by what it passed.

Knuth: Estimating the Efficiency of Backtrack Programs, Mathematics of Computation 29 (1975). A path
that takes one of its options at each decision, and divides by the probability of having taken it,
gives the number of leaves, on average over all paths: what ends in many leaves is weighed much, and
met seldom. The options are equally likely, but with a bound on preemptions: there most leaves have
their preemptions late, so they are spread over the length that earlier paths had.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread

#: The decisions at which a path could preempt, before any was measured.
FIRST_LENGTH = 32
#: No option is less likely than this one in so many.
RAREST = 50


class Descent:
    """Picks among what dfs would branch into; ``leaves`` is what the path says.

    ``preemptions`` bounds the tree as it does for ``dfs``. A path depends on those before it.
    """

    exhaustive = False
    prefix = 0
    suspended = False
    records = False
    probes = 0

    def __init__(self, seed: int, preemptions: int | None = None) -> None:
        self._seed = seed
        self._limit = preemptions
        self._rng = random.Random(seed)
        self._lengths: list[int] = []
        self._length = FIRST_LENGTH
        self._passed = 0
        self._spent = 0
        self.leaves = 1.0

    def begin(self, execution: int) -> bool:
        """Seed the path."""
        if execution == 0:
            self._lengths = []
        elif self._passed:
            self._lengths.append(self._passed)
            self._length = sum(self._lengths) // len(self._lengths)
        self._rng = random.Random((self._seed << 40) ^ execution)
        self._passed = self._spent = 0
        self.leaves = 1.0
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick an option; with a bound, stay with the current thread most of the time."""
        stay = -1
        if current is not None and not current.op.yields and current in enabled:
            stay = enabled.index(current)
        if stay < 0 or self._limit is None:
            return self.value("", len(enabled))
        self._passed += 1
        left = self._limit - self._spent
        if left <= 0:
            return stay
        preempts = left / (left + max(self._length - self._passed, 1))
        preempts = min(max(preempts, 1 / RAREST), 1 - 1 / RAREST)
        if self._rng.random() >= preempts:
            self.leaves /= 1 - preempts
            return stay
        self._spent += 1
        self.leaves /= preempts
        other = self.value("", len(enabled) - 1)
        return other + (other >= stay)

    def value(self, label: str, bound: int) -> int:
        """Pick uniformly."""
        del label
        self.leaves *= bound
        return int(self._rng.random() * bound)
