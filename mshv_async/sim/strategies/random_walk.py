"""random: every enabled thread and every value is equally likely."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.strategies.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


class RandomWalk(Sampling):
    """A uniform choice at each decision; execution ``i`` depends on the seed and ``i`` alone."""

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick uniformly."""
        del current
        return int(self._rng.random() * len(enabled))

    def value(self, label: str, bound: int) -> int:
        """Pick uniformly."""
        del label
        return int(self._rng.random() * bound)
