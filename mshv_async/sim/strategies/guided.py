"""guided: who runs how far, and which choices are not benign; followed as far as that fits.

A tape says who runs by number among those enabled, so that one changed decision gives all later
ones another meaning. A course says it by name: change a part, and the rest still means what it
did. What does not fit (a thread that cannot go on, or is there no more) is passed over, and where
the course ends the execution goes on as fifo does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mshv_async.sim.current import current_or_none
from mshv_async.sim.liveness import SETTLE
from mshv_async.sim.strategies.base import CUT
from mshv_async.sim.strategies.fifo import Fifo
from mshv_async.sim.strategies.settling import settle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread


class Stretch(NamedTuple):
    """The thread runs until it has taken ``until`` steps of its own, from its first one on."""

    thread: str
    until: int


class ChoiceKey(NamedTuple):
    """A data choice: its label, who made it, and how often that thread had made one like it."""

    label: str
    thread: str
    occurrence: int


class Course(NamedTuple):
    """An execution by names; ``values`` are the choices that are not benign (0)."""

    stretches: tuple[Stretch, ...]
    values: Mapping[ChoiceKey, int]


def course_of(rt: Runtime) -> Course:
    """Return the course of an execution, up to where its strategy lost its say."""
    steps = rt.trace[: rt.chosen_until]
    taken: dict[int, int] = {}
    stretches: list[Stretch] = []
    last = -1
    for tid, _ in steps:
        taken[tid] = taken.get(tid, 0) + 1
        stretch = Stretch(rt.all_threads[tid].name, taken[tid])
        if tid == last:
            stretches[-1] = stretch
        else:
            stretches.append(stretch)
        last = tid
    return Course(tuple(stretches), _values(rt))


def _values(rt: Runtime) -> dict[ChoiceKey, int]:
    made: dict[tuple[str, str], int] = {}
    values: dict[ChoiceKey, int] = {}
    for step, (label, value, _) in rt.choices:
        thread = rt.all_threads[rt.trace[step - 1][0]].name
        occurrence = made.get((label, thread), 0)
        made[label, thread] = occurrence + 1
        if value:
            values[ChoiceKey(label, thread, occurrence)] = value
    return values


class Guided(Fifo):
    """Follows one course. ``steps_max``: cut the execution, as seen, once it has gone that far."""

    def __init__(self, course: Course, *, steps_max: int | None = None) -> None:
        self._course = course
        self._steps_max = steps_max
        self._settles = any(key.label == SETTLE for key in course.values)
        self._rewind()

    def begin(self, execution: int) -> bool:
        """Go back to the start."""
        self._rewind()
        return execution == 0

    def _rewind(self) -> None:
        self._at = 0
        self._seen = 0  # steps of the trace that are counted
        self._taken: dict[str, int] = {}
        self._made: dict[tuple[str, str], int] = {}

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Take who has not run as far as the course says, the first that can."""
        rt = enabled[0].rt
        if self._steps_max is not None and rt.steps >= self._steps_max:
            return CUT
        self._count(rt)
        stretches = self._course.stretches
        while self._at < len(stretches):
            thread, until = stretches[self._at]
            if self._taken.get(thread, 0) < until:
                for index, candidate in enumerate(enabled):
                    if candidate.name == thread:
                        return index
            self._at += 1
        if self._settles:
            return settle(enabled, current)
        return super().pick(enabled, current)

    def second_phase(self) -> bool:
        """Say whether the course has a second phase."""
        return self._settles

    def _count(self, rt: Runtime) -> None:
        for index in range(self._seen, len(rt.trace)):
            name = rt.all_threads[rt.trace[index][0]].name
            self._taken[name] = self._taken.get(name, 0) + 1
        self._seen = len(rt.trace)

    def value(self, label: str, bound: int) -> int:
        """Take the course's value for this choice of the running thread, else the benign one."""
        running = current_or_none()
        assert running is not None, "a choice is made by a thread"
        rt = running.rt
        thread = rt.all_threads[rt.trace[-1][0]].name
        occurrence = self._made.get((label, thread), 0)
        self._made[label, thread] = occurrence + 1
        value = self._course.values.get(ChoiceKey(label, thread, occurrence), 0)
        return value if value < bound else 0
