"""What the sampling strategies share: a generator for each execution, and how often to fail.

Where a scenario permits failures, an execution first draws how likely each of them is: mostly one
in two, now and then one in eight. The first suits few places that may fail, the second a failure
that must come late, after many places where nothing failed.
"""

from __future__ import annotations

import random

#: One is drawn for each execution.
FAILURE_RATES = (1 / 2, 1 / 2, 1 / 8)


class Sampling:
    """Base of a sampling strategy; execution ``i`` depends on the seed and ``i`` alone.

    Unless the subclass has ``probes``: then on what those brought, too.
    """

    exhaustive = False
    prefix = 0
    suspended = False
    records = False
    probes = 0

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._failing: float | None = None

    def begin(self, execution: int) -> bool:
        """Seed the execution."""
        self._rng.seed((self._seed << 40) ^ execution)
        self._failing = None
        return True

    def value(self, label: str, bound: int) -> int:
        """Fail at the rate of this execution, each way to fail being equally likely."""
        del label
        if self._failing is None:
            self._failing = self._rng.choice(FAILURE_RATES)
        if self._rng.random() >= self._failing:
            return 0
        return 1 + int(self._rng.random() * (bound - 1))
