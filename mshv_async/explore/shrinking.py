"""Shrinking a failing execution: the least that still fails, with the same verdict and title.

First the schedule (`schedules.py`), then the scenario, one thread, operation, injection or region
after the other (`scenario/reducing.py`), then the schedule of what is left, and last a search
whether fewer preemptions would do. Everything is counted in executions and steps, never in time:
the same failure shrinks to the same one. The result is replayed before it is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mshv_async.driver import DriverError
from mshv_async.explore.drivers import is_shipped
from mshv_async.explore.playing import Subject, play_tape
from mshv_async.explore.results import NotDeterministic, RuntimeDefect
from mshv_async.explore.schedules import (
    LONGER,
    Budget,
    Failure,
    ScheduleShrinker,
    Size,
    failure_of,
    same_failure,
)
from mshv_async.scenario import Scenario, ScenarioError
from mshv_async.scenario.reducing import Smaller, smaller_scenarios
from mshv_async.sim.digest import digest
from mshv_async.sim.strategies import Pct
from mshv_async.sim.strategies.guided import ChoiceKey, Course, Guided, Stretch

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.sim import Runtime, Stage
    from mshv_async.sim.strategies import Strategy

EXECUTIONS = 300
STEPS = 60_000

SEARCHED = 4
"""Executions that look for the failure in a smaller scenario where its course does not fit."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What a failure was shrunk to.

    ``runtime`` is the last replay, kept; ``subject`` has the smaller scenario if that ``reduced``
    it. ``fewest``: no schedule of that scenario with fewer preemptions fails in this way;
    ``minimal``: no single stretch of its schedule can be left out. ``executions`` were played.
    """

    subject: Subject
    runtime: Runtime
    original: Size
    size: Size
    executions: int
    fewest: bool
    minimal: bool
    reduced: bool


async def shrink(
    subject: Subject,
    stage: Stage,
    rt: Runtime,
    *,
    seed: int,
    executions: int = EXECUTIONS,
    steps: int = STEPS,
    enough: Callable[[], bool] = lambda: False,
) -> Shrunk:
    """Shrink the failure that ``rt`` came to.

    ``executions`` and ``steps`` bound the work: no execution begins once one of them is spent, or
    somebody has ``enough``. Raises RuntimeDefect if the result does not replay, NotDeterministic
    with a user's driver.
    """
    work = _Work(subject, stage, seed, failure_of(rt), Budget(executions, steps, enough))
    await work.schedule(0.4)
    await work.scenario(0.6)
    await work.schedule(0.6)
    await work.fewest()
    again = await work.replayed()
    return Shrunk(
        subject=work.subject,
        runtime=again,
        original=failure_of(rt).size,
        size=work.shrinker.best.size,
        executions=work.budget.spent,
        fewest=work.shrinker.least >= work.shrinker.best.size.preemptions,
        minimal=work.shrinker.minimal,
        reduced=work.subject.scenario.text != subject.scenario.text,
    )


class _Work:
    """A failure being shrunk: what is played now, its simplest schedule, what may be spent."""

    def __init__(
        self, subject: Subject, stage: Stage, seed: int, failure: Failure, budget: Budget
    ) -> None:
        self.subject = replace(subject, checking=False)
        self.stage = stage
        self.seed = seed
        self.budget = budget
        self.steps_max = int(failure.size.steps * LONGER)
        self.shrinker = ScheduleShrinker(self._play, failure)
        self._tried: set[str] = set()  # texts; membership only

    async def _play(self, strategy: Strategy, subject: Subject | None = None) -> Runtime | None:
        try:
            return await (subject or self.subject).play(self.stage, strategy, seed=self.seed)
        except DriverError:
            return None  # a user's driver that fails here is another matter

    async def schedule(self, share: float) -> None:
        """Make the schedule simpler with that share of what is left."""
        part = self.budget.part(share)
        await self.shrinker.shrink(part)
        self.budget.settle(part)

    async def fewest(self) -> None:
        """Look for fewer preemptions with all that is left."""
        before = self.shrinker.best
        await self.shrinker.enumerate(self.budget)
        if self.shrinker.best is not before:
            await self.shrinker.shrink(self.budget)

    async def scenario(self, share: float) -> None:
        """Leave out of the scenario what the failure does not need."""
        part = self.budget.part(share)
        found = True
        while found and not part.over:
            found = False
            for smaller in smaller_scenarios(self.subject.scenario.text):
                if part.over:
                    break
                if smaller.text not in self._tried and await self._fails(smaller, part):
                    found = True
                    break
        self.budget.settle(part)

    async def _fails(self, smaller: Smaller, budget: Budget) -> bool:
        """Play a smaller scenario; go on with it if it fails in the same way."""
        self._tried.add(smaller.text)
        known = self.subject.scenario
        try:
            scenario = Scenario.parse(smaller.text, known.name, files=known.files())
            subject = replace(self.subject, scenario=scenario)
        except ScenarioError:
            return False
        best = self.shrinker.best
        strategies: list[Strategy] = [Guided(_renamed(best.course, smaller.renamed))]
        strategies += [Pct(self.seed)] * SEARCHED
        for number, strategy in enumerate(strategies):
            if budget.over:
                return False
            strategy.begin(max(number - 1, 0))
            rt = await self._play(strategy, subject)
            budget.spend(rt)
            if rt is not None and same_failure(rt, best) and self._is_no_larger(rt):
                self.subject = subject
                self.shrinker = ScheduleShrinker(self._play, failure_of(rt))
                return True
        return False

    def _is_no_larger(self, rt: Runtime) -> bool:
        preemptions = self.shrinker.best.size.preemptions
        return len(rt.preempted_at) <= preemptions and rt.steps <= self.steps_max

    async def replayed(self) -> Runtime:
        """Replay what was found, kept, and make sure that it is that."""
        best = self.shrinker.best
        rt = await play_tape(self.subject, self.stage, best.tape, seed=self.seed, keep=True)
        if not same_failure(rt, best) or digest(rt) != best.digest:
            what = (
                f"{best.title!r} was shrunk to a tape that replays to "
                f"{rt.finding.title if rt.finding else 'clean'!r} (departure: {rt.departure})"
            )
            if is_shipped(self.subject.driver):
                raise RuntimeDefect(what)
            raise NotDeterministic(what)
        return rt


def _renamed(course: Course, new: Callable[[str], str]) -> Course:
    stretches = tuple(Stretch(new(thread), until) for thread, until in course.stretches)
    values = {
        ChoiceKey(label, new(thread), occurrence): value
        for (label, thread, occurrence), value in course.values.items()
    }
    return Course(stretches, values)
