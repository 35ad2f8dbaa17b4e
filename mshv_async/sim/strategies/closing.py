"""closing: hold threads at the inner locks of an inversion, until the others stand at theirs.

Joshi, Park, Sen, Naik: A Randomized Dynamic Program Analysis Technique for Detecting Real
Deadlocks, PLDI 2009 (DeadlockFuzzer), its second phase. Departures: a thread is known by the
classes of the lock that it holds and of the one that it is about to take, not by where its objects
were made; whether it is held at such a place is drawn, so that one that the others wait for gets
by; an execution may follow one that took a pair of the classes, as far as those held let it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from mshv_async.sim.lockorder import pairs_of
from mshv_async.sim.strategies.guided import Course, Guided
from mshv_async.sim.strategies.random_walk import RandomWalk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread

HELD = 0.75
"""How often a thread is held where it might close the cycle; always in the first executions."""


class Taken(NamedTuple):
    """An execution in which the thread took one pair of the cycle."""

    thread: str
    course: Course


class Closing(RandomWalk):
    """Tries to close one inversion: the classes of a cycle, each taken under the one before.

    ``taken`` are executions that took its pairs. Execution ``i`` takes one of them in turn, or
    none: the first time it follows it, later it only makes its data choices and goes at random.
    It depends on the seed, the cycle, what was taken, and ``i`` alone.
    """

    def __init__(self, seed: int, cycle: Sequence[str], taken: Sequence[Taken]) -> None:
        super().__init__(seed)
        self._cycle = tuple(cycle)
        self._pairs = frozenset(pairs_of(cycle))
        self._courses = [None, *_with_each_others_choices(taken)]
        self._guide: Guided | None = None
        self._follows = False
        self._drawn: dict[tuple[int, int], bool] = {}  # by tid and own steps: is it held there
        self._share = 1.0

    def begin(self, execution: int) -> bool:
        """Choose the course, and seed what it leaves open."""
        turn, which = divmod(execution, len(self._courses))
        course = self._courses[which]
        self._guide = None if course is None else Guided(course)
        self._follows = turn == 0
        self._share = 1.0 if turn == 0 else HELD
        self._rng = random.Random(f"{self._seed} {self._cycle} {execution}")
        self._drawn = {}
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick one that need not be held; where all are, let any go on."""
        free = [index for index, thread in enumerate(enabled) if not self._holds(thread)]
        if not free:
            free = list(range(len(enabled)))
        if self._guide is not None and self._follows:
            return free[self._guide.pick([enabled[index] for index in free], current)]
        return free[int(self._rng.random() * len(free))]

    def value(self, label: str, bound: int) -> int:
        """Take the course's value; without a course any."""
        if self._guide is not None:
            return self._guide.value(label, bound)
        return super().value(label, bound)

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


def _with_each_others_choices(taken: Sequence[Taken]) -> list[Course]:
    """Return the courses, each with the data choices by which every pair was taken.

    The pairs of one cycle may each need a failure of their own.
    """
    needed = {
        key: value
        for one in reversed(taken)
        for key, value in one.course.values.items()
        if key.thread == one.thread
    }
    return [Course(one.course.stretches, {**one.course.values, **needed}) for one in taken]
