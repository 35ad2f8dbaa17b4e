"""When a failure became inevitable: the share of random continuations that still fail.

Each point replays the first t decisions of a repro and goes on at random, many times. Points
stand at decisions only: between two decisions nothing can change. A coarse grid comes first; then
the interval over which the share rises most is halved until one decision is left of it, and that
is the guilty one. The same repro, seed and sizes give the same points.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from mshv_async.explore.campaign import Stop
from mshv_async.explore.decisions import DecisionSeen, Sighted
from mshv_async.explore.interrupts import interrupts
from mshv_async.explore.playing import records
from mshv_async.explore.repro import ReproError
from mshv_async.explore.results import CLEAN, step_records
from mshv_async.explore.single import replay_exactly, subject_of
from mshv_async.sim import run_on_stage
from mshv_async.sim.strategies import Continued

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.explore.playing import Subject
    from mshv_async.explore.repro import Repro
    from mshv_async.explore.results import Progress
    from mshv_async.log.record import StepRecord
    from mshv_async.sim import Runtime, Stage

RUNS, POINTS = 50, 16

# Of a rise in many small steps the largest is found without following each of them.
REFINEMENTS_MAX = 32


class Share(msgspec.Struct, frozen=True):
    """So many of the runs failed; `low` and `high` hold the true share with 95 % confidence.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
    """

    failed: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, failed: int, runs: int) -> Share:
        """Return the share of `failed` among `runs`, which is at least 1."""
        z2 = 1.959964**2
        share = failed / runs
        middle = (share + z2 / (2 * runs)) / (1 + z2 / runs)
        half = sqrt(z2 * share * (1 - share) / runs + (z2 / (2 * runs)) ** 2) / (1 + z2 / runs)
        low = 0.0 if failed == 0 else max(0.0, middle - half)
        high = 1.0 if failed == runs else min(1.0, middle + half)
        return cls(failed, round(share, 4), round(low, 4), round(high, 4))


class Point(msgspec.Struct, frozen=True):
    """What came of `runs` continuations after the first `decisions` of the tape.

    `step`: the first step that was left to chance. `same`: those that failed with the repro's
    title; `any`: with whatever title.
    """

    decisions: int
    step: int
    runs: int
    same: Share
    any: Share


class Jump(msgspec.Struct, frozen=True):
    """The decision over which the share rose most. `number` counts decisions from 1.

    `clear`: the intervals before and after do not meet. `steps` are those around it.
    """

    number: int
    decision: DecisionSeen
    before: Share
    after: Share
    clear: bool


class Likelihood(msgspec.Struct, frozen=True):
    """The share of failing continuations along one repro.

    `decisions` and `steps` are those of the repro. `jump` is where the share of its title rose
    most, `jump_any` where that of all failures did; None: it never rose. `interrupted`: ended
    before all points were taken.
    """

    scenario: str
    driver: str
    verdict: str
    title: str
    seed: int
    decisions: int
    steps: int
    points: list[Point]
    jump: Jump | None
    jump_any: Jump | None
    interrupted: bool


def likelihood(
    repro: Repro,
    *,
    trust: bool = False,
    runs: int = RUNS,
    points: int = POINTS,
    seed: int = 1,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> tuple[Likelihood, list[StepRecord]]:
    """Measure a repro; also return its steps.

    `runs` continuations at each point; at most `points` in the grid. ^C, or `stop` from another
    thread, ends it with what it has. `progress` gets runs, steps and failures so far. Raises
    ReproError where there is no failure to look at, Departed where it no longer replays.
    """
    if repro.verdict == CLEAN:
        raise ReproError("the repro is of a clean run: there is no failure to look at")
    replay_exactly(repro, trust=trust)
    study = _Study(repro, subject_of(repro), runs=runs, seed=seed, stop=stop or Stop())
    study.progress = progress

    async def act(stage: Stage) -> None:
        await study.look(stage)
        await study.measure(stage, points)

    with interrupts(study.stop):
        run_on_stage(act)
    return study.result(), study.steps


Rising: TypeAlias = "Callable[[Point], Share]"
SAME: Rising = attrgetter("same")
ANY: Rising = attrgetter("any")


class _Study:
    def __init__(self, repro: Repro, subject: Subject, *, runs: int, seed: int, stop: Stop) -> None:
        self.repro, self.subject = repro, subject
        self.runs, self.seed, self.stop = runs, seed, stop
        self.tape = repro.tape
        self.steps: list[StepRecord] = []
        self.seen: list[DecisionSeen] = []
        self.points: dict[int, Point] = {}
        self.progress: Progress | None = None
        self.played = self.played_steps = self.failed = 0

    async def look(self, stage: Stage) -> None:
        """Replay once to learn what was decided at which step."""
        sighted = Sighted(self.tape)
        sighted.begin(0)
        rt = await self.subject.play(stage, sighted, seed=self.repro.seed, keep=True)
        self.steps, self.seen = step_records(records(rt)), sighted.seen

    async def measure(self, stage: Stage, points: int) -> None:
        """Take the grid, then halve the interval of the largest rise until it is one decision."""
        total = len(self.tape)
        gaps = max(1, min(points - 1, total))
        for at in sorted({round(i * total / gaps) for i in range(gaps + 1)}):
            await self._point(stage, at)
        for rising in (SAME, ANY):
            for _ in range(REFINEMENTS_MAX):
                steepest = self._steepest(rising)
                if steepest is None or steepest[1] - steepest[0] <= 1 or self.stop.asked:
                    break
                await self._point(stage, sum(steepest) // 2)

    async def _point(self, stage: Stage, kept: int) -> None:
        strategy = Continued(self.tape, self.seed)
        strategy.kept = kept
        same = failed = 0
        for execution in range(self.runs):
            if self.stop.asked:
                return
            strategy.begin(execution)
            rt = await self.subject.play(stage, strategy, seed=self.repro.seed)
            self._count(rt)
            failed += rt.finding is not None
            same += rt.finding is not None and rt.finding.title == self.repro.title
        self.points[kept] = Point(
            decisions=kept,
            step=self.seen[kept].step if kept < len(self.seen) else len(self.steps) + 1,
            runs=self.runs,
            same=Share.of(same, self.runs),
            any=Share.of(failed, self.runs),
        )

    def _count(self, rt: Runtime) -> None:
        self.played += 1
        self.played_steps += rt.steps
        self.failed += rt.finding is not None
        if self.progress is not None:
            self.progress(self.played, self.played_steps, self.failed)

    def _steepest(self, rising: Rising) -> tuple[int, int] | None:
        """Return the two neighbouring points between which the share rises most; the first such."""
        rises = [
            (rising(self.points[b]).failed - rising(self.points[a]).failed, a, b)
            for a, b in pairwise(sorted(self.points))
        ]
        best = max(rises, key=lambda rise: rise[0], default=(0, 0, 0))
        return best[1:] if best[0] > 0 else None

    def _jump(self, rising: Rising) -> Jump | None:
        steepest = self._steepest(rising)
        if steepest is None or steepest[1] - steepest[0] > 1:
            return None
        a, b = (rising(self.points[at]) for at in steepest)
        return Jump(
            number=steepest[1],
            decision=self.seen[steepest[0]],
            before=a,
            after=b,
            clear=a.high < b.low,
        )

    def result(self) -> Likelihood:
        return Likelihood(
            scenario=self.repro.scenario_name,
            driver=self.repro.driver,
            verdict=self.repro.verdict,
            title=self.repro.title,
            seed=self.seed,
            decisions=len(self.tape),
            steps=len(self.steps),
            points=[self.points[at] for at in sorted(self.points)],
            jump=self._jump(SAME),
            jump_any=self._jump(ANY),
            interrupted=self.stop.asked,
        )
