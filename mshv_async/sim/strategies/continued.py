"""continued: repeat the first decisions of a tape, then decide at random."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from mshv_async.sim.strategies.random_walk import RandomWalk
from mshv_async.sim.strategies.replay import Replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


class Continued(RandomWalk):
    """Plays the first ``kept`` decisions of a tape, then goes on as ``random`` does.

    Execution ``i`` depends on the seed, ``kept`` and ``i`` alone. A tape that does not fit raises
    :class:`~mshv_async.sim.misfit.TapeMisfit`.
    """

    def __init__(self, tape: Sequence[tuple[str, int, int]], seed: int) -> None:
        super().__init__(seed)
        self._whole = tuple(tape)
        self._replay = Replay(self._whole)
        self.kept = len(self._whole)

    def begin(self, execution: int) -> bool:
        """Rewind to the start of the tape and seed what comes after it."""
        self._replay = Replay(self._whole[: self.kept])
        self._rng = random.Random(f"{self._seed} {self.kept} {execution}")
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Take the tape's decision, or any."""
        if self._replay.left:
            return self._replay.pick(enabled, current)
        return super().pick(enabled, current)

    def value(self, label: str, bound: int) -> int:
        """Take the tape's decision, or any."""
        if self._replay.left:
            return self._replay.value(label, bound)
        return super().value(label, bound)
