"""closing: hold threads at the inner locks of an inversion, until the others stand at theirs.

Joshi, Park, Sen, Naik: A Randomized Dynamic Program Analysis Technique for Detecting Real
Deadlocks, PLDI 2009 (DeadlockFuzzer), its second phase. Departures: a thread is known by the
classes of the lock that it holds and of the one that it is about to take, not by where its objects
were made; whether it is held at such a place is drawn, so that one that the others wait for gets
by; an execution may first repeat another one up to the place where a pair of classes was taken.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from mshv_async.sim.strategies.random_walk import RandomWalk
from mshv_async.sim.strategies.replay import Replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.tape import Tape
    from mshv_async.sim.thread import Thread

HELD = 0.75
"""How often a thread is held where it might close the circle; in execution 0 always."""


class Approach(NamedTuple):
    """A tape that comes to where a pair of lock classes is taken, and that step."""

    tape: Tape
    step: int


class Closing(RandomWalk):
    """Tries to close one inversion: the classes of a circle, each taken under the one before.

    Execution ``i`` begins with one of the approaches in turn, or with none, and goes on at random
    with the threads held back. It depends on the seed, the circle and ``i`` alone.
    """

    def __init__(self, seed: int, circle: Sequence[str], approaches: Sequence[Approach]) -> None:
        super().__init__(seed)
        self._circle = tuple(circle)
        self._pairs = frozenset(zip(circle, (*circle[1:], circle[0]), strict=True))
        self._approaches = [None, *approaches]
        self._approach: Approach | None = None
        self._replay = Replay(())
        self._drawn: dict[tuple[int, int], bool] = {}  # by tid and own steps: is it held there
        self._share = 1.0

    def begin(self, execution: int) -> bool:
        """Choose the approach and seed what comes after it."""
        self._approach = self._approaches[execution % len(self._approaches)]
        self._replay = Replay(self._approach.tape if self._approach is not None else ())
        self._rng = random.Random(f"{self._seed} {self._circle} {execution}")
        self._drawn = {}
        self._share = 1.0 if execution < len(self._approaches) else HELD
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick one that need not be held; where all are, let any go on."""
        if self._approaches_still(enabled[0].rt.steps + 1):
            return self._replay.pick(enabled, current)
        free = [index for index, thread in enumerate(enabled) if not self._holds(thread)]
        if free:
            return free[int(self._rng.random() * len(free))]
        return super().pick(enabled, current)

    def value(self, label: str, bound: int) -> int:
        """Take the approach's value, or any."""
        if self._replay.left:
            return self._replay.value(label, bound)
        return super().value(label, bound)

    def _approaches_still(self, step: int) -> bool:
        if self._approach is None or step < self._approach.step:
            return self._replay.left > 0
        self._approach = None
        self._replay = Replay(())
        return False

    def _holds(self, thread: Thread) -> bool:
        """Say whether a thread is held here: once drawn, it stays so while it stands here."""
        if not self._may_close(thread):
            return False
        place = (thread.tid, thread.ledger.own_steps)
        if place not in self._drawn:
            self._drawn[place] = self._rng.random() < self._share
        return self._drawn[place]

    def _may_close(self, thread: Thread) -> bool:
        op = thread.op
        inner = getattr(op.obj, "cls", None)
        if inner is None or (op.holders is None and op.label != "rwsem.write_arrive"):
            return False
        return any((held.cls, inner) in self._pairs for held in thread.held)
