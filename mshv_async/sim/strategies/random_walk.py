"""random: every enabled thread and every value is equally likely."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


class RandomWalk:
    """A uniform choice at each decision; execution ``i`` depends on the seed and ``i`` alone."""

    exhaustive = False
    prefix = 0
    suspended = False
    records = False
    probes = 0

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)

    def begin(self, execution: int) -> bool:
        """Seed the execution."""
        self._rng = random.Random((self._seed << 40) ^ execution)
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick uniformly."""
        del current
        return int(self._rng.random() * len(enabled))

    def value(self, label: str, bound: int) -> int:
        """Pick uniformly."""
        del label
        return int(self._rng.random() * bound)
