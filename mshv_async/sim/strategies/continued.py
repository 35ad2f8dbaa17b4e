"""continued: repeat the first decisions of a tape, then decide at random."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from mshv_async.sim.liveness import SETTLE
from mshv_async.sim.strategies.random_walk import RandomWalk
from mshv_async.sim.strategies.replay import Replay
from mshv_async.sim.strategies.settling import DOUBLINGS, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


class Continued(RandomWalk):
    """Plays the first ``kept`` decisions of a tape, then goes on as ``random`` does.

    Where the tape has a second phase, so has what comes after the kept part, after a number of
    decisions that is drawn as ``two-phase`` draws it. Execution ``i`` depends on the seed,
    ``kept`` and ``i`` alone. A tape that does not fit raises
    :class:`~mshv_async.sim.misfit.TapeMisfit`.
    """

    def __init__(self, tape: Sequence[tuple[str, int, int]], seed: int) -> None:
        super().__init__(seed)
        self._whole = tuple(tape)
        self._replay = Replay(self._whole)
        self._settles = any(label == SETTLE for label, _, _ in tape)
        self._left = 0
        self.kept = len(self._whole)

    def begin(self, execution: int) -> bool:
        """Rewind to the start of the tape and seed what comes after it."""
        self._replay = Replay(self._whole[: self.kept])
        self._rng = random.Random(f"{self._seed} {self.kept} {execution}")
        self._left = int(2 ** (self._rng.random() * DOUBLINGS)) if self._settles else 0
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Take the tape's decision, or any."""
        if self._replay.left:
            return self._replay.pick(enabled, current)
        self._left -= 1
        if self._left == 0:
            return settle(enabled, current)
        return super().pick(enabled, current)

    def value(self, label: str, bound: int) -> int:
        """Take the tape's decision, or any."""
        if self._replay.left:
            return self._replay.value(label, bound)
        return super().value(label, bound)

    def second_phase(self) -> bool:
        """Say whether the second phase begins where the strategy loses its say."""
        return self._replay.second_phase() if self._replay.left else self._settles
