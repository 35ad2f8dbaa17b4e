"""A run of execution numbers: played one after the other, counted, and handed back as a whole."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from mshv_async.explore.auditing import CallSites, audit
from mshv_async.explore.finishing import replayed
from mshv_async.explore.results import NotDeterministic
from mshv_async.explore.tally import Tally, failing_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.explore.checking import ModelChecks
    from mshv_async.explore.playing import Subject
    from mshv_async.sim import Runtime, Stage
    from mshv_async.sim.strategies import Strategy


class End(StrEnum):
    """Why nothing comes after a batch."""

    FINDING = "finding"  # and the campaign was to stop at the first
    EXHAUSTED = "exhausted"  # the strategy has nothing left
    ERROR = "error"


@dataclass(slots=True)
class Batch:
    """The executions ``first`` … ``after`` - 1 and what they came to.

    ``end`` is None where others may follow, be it that the batch was left early. An ``error`` is
    that of execution ``after``, which is not counted. ``seconds`` is how long it took.
    """

    first: int
    after: int
    tally: Tally = field(default_factory=Tally)
    end: End | None = None
    error: Exception | None = None
    seconds: float = 0.0


Figures: TypeAlias = tuple[int, int, int]
"""Schedules, steps and titles, for whoever watches."""


def figures(batch: Batch) -> Figures:
    """Return how far a batch is."""
    return batch.tally.schedules, batch.tally.steps, len(batch.tally.findings)


class Player:
    """Plays executions by their numbers with one strategy, in this process.

    An execution is the same whoever plays it: those that others depend on (``Strategy.probes``)
    are played first, and not counted, where a batch begins after them.
    """

    def __init__(
        self,
        subject: Subject,
        strategy: Strategy,
        *,
        seed: int,
        keep_going: bool,
        checks: ModelChecks | None = None,
        shadow: Strategy | None = None,
    ) -> None:
        self.subject = subject
        self.strategy = strategy
        self.seed = seed
        self.keep_going = keep_going
        self.checks = checks
        self.shadow = shadow  # the same strategy once more, to audit every execution with
        self.batch = Batch(0, 0)  # the one that is being played, for whoever interrupts it
        self._next = 0  # the number after the one that was played last
        self._probed = False
        self._believed: dict[str, int] = {}  # by title, the steps of the shortest that replayed

    async def play(
        self, stage: Stage, first: int, after: int, leave: Callable[[Batch], bool]
    ) -> Batch:
        """Play a batch; ``leave`` is asked after each execution whether that is enough."""
        batch = self.batch = Batch(first, first)
        started = time.monotonic()
        try:
            await self._prepare(stage, first)
            while batch.after < after and batch.end is None:
                await self._one(stage, batch)
                if leave(batch):
                    break
        except Exception as error:  # what was counted before it stands
            batch.end, batch.error = End.ERROR, error
            self._next = -1
        batch.seconds = time.monotonic() - started
        return batch

    async def _prepare(self, stage: Stage, first: int) -> None:
        """Play, uncounted, those first executions that the next ones depend on."""
        probes = self.strategy.probes
        if first == self._next or (self._probed and first >= probes):
            return
        for number in range(min(first, probes)):
            for strategy in (self.strategy, self.shadow):
                if strategy is not None and strategy.begin(number):
                    await self.subject.play(stage, strategy, seed=self.seed)
        self._probed = first >= probes

    async def _one(self, stage: Stage, batch: Batch) -> None:
        number = batch.after
        if not self.strategy.begin(number):
            batch.end = End.EXHAUSTED
            return
        checkers = self.checks.for_execution() if self.checks is not None else ()
        sites = CallSites()
        if self.shadow is not None:
            checkers = (*checkers, sites)
        rt = await self.subject.play(stage, self.strategy, seed=self.seed, checkers=checkers)
        if self.shadow is not None:
            await self._audit(stage, rt, sites, self.shadow, number)
        await self._verify(stage, rt, number + 1)
        batch.tally.count(rt, number + 1)
        batch.after = self._next = number + 1
        self._probed = self._probed or self._next >= self.strategy.probes
        if self.checks is not None:
            await self.checks.judge(self.subject, stage, rt, checkers)
        if rt.finding is not None and not self.keep_going:
            batch.end = End.FINDING

    async def _audit(
        self, stage: Stage, rt: Runtime, sites: CallSites, shadow: Strategy, number: int
    ) -> None:
        schedule = number + 1
        if not shadow.begin(number):
            raise NotDeterministic(f"execution {schedule}: the strategy had come to its end before")
        await audit(rt, sites, shadow, self.subject, stage, seed=self.seed, schedule=schedule)

    async def _verify(self, stage: Stage, rt: Runtime, schedule: int) -> None:
        """Replay what may come to be shown before it is believed; see ``replayed``."""
        if rt.finding is None:
            return
        title = rt.finding.title
        if title in self._believed and self._believed[title] <= rt.steps:
            return
        await replayed(failing_run(rt, schedule), self.subject, stage, self.seed, rt)
        self._believed[title] = rt.steps
