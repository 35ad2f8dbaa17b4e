"""descent: one random path down the tree that dfs would search, weighed by what it passed.

Knuth: Estimating the Efficiency of Backtrack Programs, Mathematics of Computation 29 (1975). A path
that takes one of its options at each decision with equal probability and multiplies the numbers of
options gives the number of leaves, on average over all paths: what ends in many leaves is weighed
much, and met seldom.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


class Descent:
    """A uniform choice among what dfs would branch into; ``leaves`` is the path's estimate.

    ``preemptions`` bounds the tree as it does for ``dfs``.
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
        self._spent = 0
        self.leaves = 1

    def begin(self, execution: int) -> bool:
        """Seed the path."""
        self._rng = random.Random((self._seed << 40) ^ execution)
        self._spent = 0
        self.leaves = 1
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick uniformly, unless another preemption would pass the bound."""
        stay = -1
        if current is not None and not current.op.yields and current in enabled:
            stay = enabled.index(current)
        if stay >= 0 and self._limit is not None and self._spent >= self._limit:
            return stay
        taken = self.value("", len(enabled))
        self._spent += stay >= 0 and taken != stay
        return taken

    def value(self, label: str, bound: int) -> int:
        """Pick uniformly."""
        del label
        self.leaves *= bound
        return int(self._rng.random() * bound)
