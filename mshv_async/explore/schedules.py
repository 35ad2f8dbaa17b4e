"""Simpler schedules of one failure: fewer preemptions first, by deletion and by enumeration.

Delta debugging (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, IEEE TSE
2002) on the course of the execution, that is on who runs how far, instead of on the tape. From
the paper: chunks are left out, halved until they are single. Departures: what counts is not the
length of what is left but the size of the execution that it leads to, for a stretch left out is
work put off; the next attempt starts from the real course of that execution; and single stretches
are also made longer (a thread goes on until it cannot). Last, iterative context bounding
(Musuvathi, Qadeer, PLDI 2007) asks whether fewer preemptions would do, as far as the budget goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mshv_async.sim.digest import digest
from mshv_async.sim.liveness import SETTLE
from mshv_async.sim.strategies import Dfs
from mshv_async.sim.strategies.guided import Course, Guided, Stretch, course_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from mshv_async.sim import Runtime, Tape
    from mshv_async.sim.strategies import Strategy

FAR = 1 << 62
"""More steps than any thread takes: it runs until it cannot go on."""

LONGER = 1.5
"""So many times the steps of the first schedule are too many, whatever they save."""


class Size(NamedTuple):
    """How simple an execution is, the most important first: smaller is simpler."""

    preemptions: int
    failures: int  # data choices that are not benign
    switches: int
    steps: int


def size_of(rt: Runtime, course: Course) -> Size:
    """Return the size of an execution."""
    return Size(len(rt.preempted_at), len(course.values), len(course.stretches), rt.steps)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failing execution, as far as a simpler one has to know it.

    ``preempting``: the indices of stretches that begin with a preemption.
    """

    verdict: str
    title: str
    digest: str
    tape: Tape
    course: Course
    size: Size
    preempting: tuple[int, ...]

    @property
    def settles(self) -> bool:
        """Whether it is one of the second phase, which without that phase is another matter."""
        return any(key.label == SETTLE for key in self.course.values)


def failure_of(rt: Runtime) -> Failure:
    """Return the failure that an execution came to."""
    assert rt.finding is not None
    course = course_of(rt)
    return Failure(
        rt.finding.verdict,
        rt.finding.title,
        digest(rt),
        list(rt.tape),
        course,
        size_of(rt, course),
        _preempting(rt, course),
    )


def _preempting(rt: Runtime, course: Course) -> tuple[int, ...]:
    """Return which stretches begin with a preemption."""
    preempted = frozenset(rt.preempted_at)
    taken: dict[str, int] = {}
    step = 1
    found = []
    for index, (thread, until) in enumerate(course.stretches):
        if step in preempted:
            found.append(index)
        step += until - taken.get(thread, 0)
        taken[thread] = until
    return tuple(found)


@dataclass
class Budget:
    """How many executions and steps may still be spent; never time, so that results repeat."""

    executions: int
    steps: int
    enough: Callable[[], bool] = lambda: False
    spent: int = 0
    stepped: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing is left, or somebody has enough."""
        return self.spent >= self.executions or self.stepped >= self.steps or self.enough()

    def spend(self, rt: Runtime | None) -> None:
        """Count an execution."""
        self.spent += 1
        self.stepped += 0 if rt is None else rt.steps

    def part(self, share: float) -> Budget:
        """Return a budget that is a share of what is left; `settle` it afterwards."""
        return Budget(
            int((self.executions - self.spent) * share),
            int((self.steps - self.stepped) * share),
            self.enough,
        )

    def settle(self, part: Budget) -> None:
        """Count what a part has spent."""
        self.spent += part.spent
        self.stepped += part.stepped


Play: TypeAlias = "Callable[[Strategy], Awaitable[Runtime | None]]"
"""Plays one execution of what is explored; None: the driver is not fit for what comes up."""


class ScheduleShrinker:
    """Makes the schedule of one failure simpler, step by step; ``best`` is the simplest so far.

    ``least``: no schedule with fewer preemptions shows the failure (0: nothing is known).
    ``minimal``: no single stretch can be left out or drawn out any more.
    """

    def __init__(self, play: Play, failure: Failure, least: int = 0) -> None:
        self.play = play
        self.best = failure
        self.least = least
        self.minimal = False
        self._steps_max = int(failure.size.steps * LONGER)
        self._tried: set[object] = set()  # membership only

    async def shrink(self, budget: Budget) -> None:
        """Leave out and draw out as long as that helps."""
        self.minimal = False
        while not budget.over:
            before = self.best
            await self._chunks(budget)
            await self._singles(budget)
            if self.best is before:
                self.minimal = not budget.over
                return

    async def _chunks(self, budget: Budget) -> None:
        """Leave out chunks of stretches, and all choices, the larger ones first."""
        await self.attempt(Course((), self.best.course.values), budget)
        kept = {k: v for k, v in self.best.course.values.items() if k.label == SETTLE}
        await self.attempt(Course(self.best.course.stretches, kept), budget)
        for thread in dict.fromkeys(s.thread for s in self.best.course.stretches):
            others = [s for s in self.best.course.stretches if s.thread != thread]
            await self.attempt(self._with(others), budget)
        size = len(self.best.course.stretches) // 2
        while size > 1:
            at = len(self.best.course.stretches) - size
            while at > -size and not budget.over:
                known = self.best.course.stretches
                # A success makes the course shorter; what lay before the chunk is still to come.
                await self.attempt(self._with(known[: max(at, 0)] + known[at + size :]), budget)
                at -= size
            size //= 2

    async def _singles(self, budget: Budget) -> None:
        """Try every simple change; after each that helps, begin again."""
        found = True
        while found and not budget.over:
            found = False
            for course in self._changes():
                if await self.attempt(course, budget):
                    found = True
                    break
                if budget.over:
                    return

    def _changes(self) -> Iterator[Course]:
        """Yield the courses that differ in one thing, those that save a preemption first."""
        course, known = self.best.course, self.best.course.stretches
        for index in reversed(self.best.preempting):
            before = known[index - 1].thread
            again = _next_of(known, before, index)
            yield self._with((*known[:index], *known[again:]))  # it goes on, the others wait
            yield self._with((*known[: index - 1], *known[index:]))  # it waits, the others go on
            drawn = Stretch(before, FAR)
            yield self._with((*known[: index - 1], drawn, *known[index:]))
        for key in course.values:
            kept = {k: v for k, v in course.values.items() if k != key}
            yield Course(known, kept)
        for index in reversed(range(len(known))):
            yield self._with((*known[:index], *known[index + 1 :]))
        for index in reversed(self.best.preempting):
            yield from self._earlier(index)

    def _earlier(self, index: int) -> Iterator[Course]:
        """Yield courses in which the thread that is interrupted there runs less far."""
        known = self.best.course.stretches
        thread, until = known[index - 1]
        begin = max((s.until for s in known[: index - 1] if s.thread == thread), default=0)
        for less in ((begin + until) // 2, until - 1):
            if begin < less < until:
                yield self._with((*known[: index - 1], Stretch(thread, less), *known[index:]))

    def _with(self, stretches: Iterable[Stretch]) -> Course:
        return Course(tuple(stretches), self.best.course.values)

    async def attempt(self, course: Course, budget: Budget) -> bool:
        """Play a course; keep it if it fails in the same way and is simpler."""
        key = (course.stretches, tuple(sorted(course.values.items())))
        if key in self._tried or budget.over:
            return False
        self._tried.add(key)
        strategy = Guided(course, steps_max=self._steps_max)
        return self._take(await self._played(strategy, budget))

    async def _played(self, strategy: Strategy, budget: Budget) -> Runtime | None:
        rt = await self.play(strategy)
        budget.spend(rt)
        return rt

    def _take(self, rt: Runtime | None) -> bool:
        if rt is None or not same_failure(rt, self.best) or rt.steps > self._steps_max:
            return False
        if size_of(rt, course_of(rt)) >= self.best.size:
            return False
        self.best = failure_of(rt)
        return True

    async def enumerate(self, budget: Budget) -> None:
        """Run every schedule with fewer preemptions, fewest first, as far as the budget goes.

        The first that fails is kept. What needs a second phase is not looked for: these schedules
        have none.
        """
        if self.best.settles:
            return
        while self.least < self.best.size.preemptions and not budget.over:
            strategy = Dfs(self.least)
            judged = True
            number = 0
            while strategy.begin(number):
                if budget.over:
                    return
                rt = await self._played(strategy, budget)
                number += 1
                if self._take(rt):
                    break
                judged = judged and self._refutes(rt)
            else:
                if not judged:
                    return
                self.least += 1

    def _refutes(self, rt: Runtime | None) -> bool:
        """Say whether an execution went to its end, all choices its own, without the failure."""
        return not (rt is None or same_failure(rt, self.best) or rt.fair or rt.cut is not None)


def same_failure(rt: Runtime, failure: Failure) -> bool:
    """Say whether an execution came to the same verdict and title, in the same phase."""
    found = rt.finding
    if found is None or (found.verdict, found.title) != (failure.verdict, failure.title):
        return False
    return any(choice.label == SETTLE for _, choice in rt.choices) == failure.settles


def _next_of(stretches: tuple[Stretch, ...], thread: str, after: int) -> int:
    for index in range(after, len(stretches)):
        if stretches[index].thread == thread:
            return index
    return len(stretches)
