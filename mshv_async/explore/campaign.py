"""The command ``explore``: many executions of one scenario, and what they came to."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from mshv_async.explore.batches import Batch, End, Figures, Player, figures
from mshv_async.explore.catalogue import check_parts, make_strategy
from mshv_async.explore.collecting import fewer_collections
from mshv_async.explore.drivers import driver_spec
from mshv_async.explore.estimate import estimate_tree
from mshv_async.explore.finishing import finish
from mshv_async.explore.interrupts import interrupts
from mshv_async.explore.inversions import Closer
from mshv_async.explore.numbers import WHOLE, Numbers
from mshv_async.explore.playing import Subject
from mshv_async.explore.proving import prove
from mshv_async.explore.results import CampaignResult, FoundFinding, Proof
from mshv_async.explore.resuming import identity_of, opened
from mshv_async.explore.tally import Tally
from mshv_async.explore.transport import Work
from mshv_async.explore.workers import Workers
from mshv_async.sim import run_on_stage
from mshv_async.sim.strategies import SettlingDfs, SettlingStates, Stateful

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mshv_async.explore.checking import ModelChecks
    from mshv_async.explore.drivers import Driver
    from mshv_async.explore.estimate import Estimate, Expect
    from mshv_async.explore.numbers import Shard
    from mshv_async.explore.results import Progress
    from mshv_async.explore.store import Store
    from mshv_async.scenario import Scenario
    from mshv_async.sim import Stage
    from mshv_async.sim.strategies import Strategy

PROGRESS_EVERY = 64
ESTIMATE_AFTER = 256
"""Executions of an exhaustive search after which it is worth asking how many there are."""
SAVE_EVERY_S = 1.0
"""Of what was played in this time, so much may have to be played again after a kill."""


class Stop:
    """Asks a campaign, from anywhere, to end after the execution that it is in."""

    asked = False

    def __call__(self) -> None:
        """Ask."""
        self.asked = True


def explore_sync(
    scenario: Scenario,
    driver: Driver,
    *,
    strategy: str = "portfolio",
    schedules: int = 10_000,
    seconds: float | None = None,
    seed: int = 1,
    preemptions: int | None = None,
    workers: int = 1,
    keep_going: bool = False,
    progress: Progress | None = None,
    expect: Expect | None = None,
    checks: ModelChecks | None = None,
    stop: Stop | None = None,
    shrink: bool = False,
    proves: bool = False,
    shard: Shard = WHOLE,
    store: Path | None = None,
    resume: bool = False,
    audit: bool = False,
) -> CampaignResult:
    """Explore a scenario from synchronous code, up to ``schedules`` executions or ``seconds``.

    Stops at the first finding unless ``keep_going``. ``checks`` runs the model checkers as well;
    ``audit`` plays each execution twice more and ends where one differs. ``shrink`` makes each
    finding as small as it gets; ``proves`` checks the model after an exhausted search without a
    finding, and states what is proved. ``shard`` plays part of the executions. ``store`` is a
    folder that keeps what was played, batch by batch; ``resume`` goes on from there.
    ``expect`` is told how many executions an exhaustive search is estimated to need.

    Raises DriverError, StrategyError, CampaignError; but what goes wrong after the first execution
    is the result's ``error``, and ^C, or ``stop`` from another thread, only ends it early.
    """
    check_parts(strategy, workers=workers, shard=shard, resume=resume, check=checks is not None)
    stop = stop or Stop()
    campaign = Campaign(
        Subject(scenario, driver_spec(driver), checking=checks is not None),
        make_strategy(strategy, seed=seed, preemptions=preemptions),
        strategy_name=strategy,
        seed=seed,
        checks=checks,
        stop=stop,
        shrinks=shrink,
        proves=proves,
        preemptions=preemptions,
        shard=shard,
        shadow=make_strategy(strategy, seed=seed, preemptions=preemptions) if audit else None,
    )
    deadline = None if seconds is None else time.monotonic() + seconds
    work = campaign.work(keep_going=keep_going) if workers > 1 else None
    if store is not None:
        campaign.keep(store, schedules, keep_going=keep_going, resume=resume)

    async def alone(stage: Stage) -> None:
        await campaign.run(
            stage, schedules, deadline, keep_going=keep_going, progress=progress, expect=expect
        )

    def play() -> None:
        if work is None:
            run_on_stage(alone)
        else:
            campaign.run_workers(work, workers, schedules, deadline, progress=progress)

    with closing(campaign), interrupts(stop), fewer_collections():
        _guarded(campaign, play)
        if campaign.error is not None and not campaign.tally.schedules:
            raise campaign.error
        # What was found is shown though the search was interrupted, or broke.
        _guarded(campaign, lambda: run_on_stage(campaign.finish))
    return campaign.result()


def _guarded(campaign: Campaign, act: Callable[[], None]) -> None:
    """Run a part of a campaign; what ends it is the campaign's, not the caller's."""
    try:
        act()
    except KeyboardInterrupt:
        campaign.interrupted = True
    except Exception as error:
        # A second ^C may strike the loop itself, which then ends in any way.
        campaign.interrupted = campaign.stop.asked
        if not campaign.stop.asked:
            campaign.error = error


class Campaign:
    """Plays executions one after the other in this process, and ends with what they came to."""

    def __init__(
        self,
        subject: Subject,
        strategy: Strategy,
        *,
        strategy_name: str,
        seed: int,
        checks: ModelChecks | None = None,
        stop: Stop | None = None,
        shrinks: bool = False,
        proves: bool = False,
        preemptions: int | None = None,
        shard: Shard = WHOLE,
        shadow: Strategy | None = None,
    ) -> None:
        self.stop = stop or Stop()
        self.shrinks = shrinks
        self.proves = proves
        self.subject = subject
        self.strategy = strategy
        self.strategy_name = strategy_name
        self.seed = seed
        self.checks = checks
        self.preemptions = preemptions
        self.shard = shard
        self.shadow = shadow
        self.store: Store | None = None
        self.tally = Tally()
        self.estimate: Estimate | None = None
        self.position = 0  # all numbers of the shard below it are in the tally
        self.findings: Sequence[FoundFinding] = ()
        self.exhausted = False
        self.interrupted = False
        self.error: Exception | None = None
        self.proof: Proof | None = None
        self._end: End | None = None
        self._started = time.monotonic()
        self._seconds_before = 0.0

    def work(self, *, keep_going: bool) -> Work:
        """Return what worker processes are told. Raises DriverError."""
        return Work.of(
            self.subject,
            self.strategy_name,
            seed=self.seed,
            preemptions=self.preemptions,
            keep_going=keep_going,
            audited=self.shadow is not None,
        )

    def keep(self, folder: Path, schedules: int, *, keep_going: bool, resume: bool) -> None:
        """Keep what is played in a folder's store, and begin with what it holds. StoreError."""
        identity = identity_of(self.subject, self.strategy_name, self.seed, self.preemptions)
        self.store = store = opened(
            folder, identity, self.shard, schedules, keep_going=keep_going, resume=resume
        )
        end = None if keep_going and store.end is End.FINDING else store.end
        self.begin_with(store.tally(), end, store.seconds)
        self.position = store.position

    def begin_with(self, tally: Tally, end: End | None, seconds: float) -> None:
        """Take over what was played before, in so many seconds."""
        self.tally, self._end, self._seconds_before = tally, end, seconds

    async def run(
        self,
        stage: Stage,
        schedules: int,
        deadline: float | None,
        *,
        keep_going: bool,
        progress: Progress | None,
        expect: Expect | None = None,
    ) -> None:
        """Play up to ``schedules`` executions, until ``deadline`` (monotonic seconds)."""
        player = Player(
            self.subject,
            self.strategy,
            seed=self.seed,
            keep_going=keep_going,
            checks=self.checks,
            shadow=self.shadow,
        )
        save_at = 0.0

        def leave(batch: Batch) -> bool:
            if progress is not None and not (batch.after - 1) % PROGRESS_EVERY:
                progress(*self._so_far([figures(batch)]))
            if self.store is not None and time.monotonic() >= save_at:
                return True
            return self._over(deadline)

        numbers = Numbers(self.position, schedules, self.shard)
        over = False
        while self._end is None and not over and (span := numbers.take(schedules)) is not None:
            first, after = span
            while first < after and self._end is None and not over:
                save_at = time.monotonic() + SAVE_EVERY_S
                begin = self._estimates() and first + ESTIMATE_AFTER < after
                try:
                    until = first + ESTIMATE_AFTER if begin else after
                    self.take(await player.play(stage, first, until, leave))
                except BaseException:
                    self.tally.merge(player.batch.tally)  # to be shown, but hardly whole
                    raise
                first = self.position
                over = self._over(deadline)
                if not over and self._end is None and self._estimates():
                    await self._estimate(stage, expect)
        self._ends()
        if self._end is None and not over:
            # The budget may end exactly where the tree does.
            self.exhausted = self.strategy.exhaustive and not self.strategy.begin(schedules)
        if self.tally.cut or self.tally.fair:
            # A cut execution was not judged to its end; a fair tail takes no choices.
            self.exhausted = False

    def run_workers(
        self,
        work: Work,
        count: int,
        schedules: int,
        deadline: float | None,
        *,
        progress: Progress | None,
    ) -> None:
        """Let processes play up to ``schedules`` executions, until ``deadline``."""

        def look() -> bool:
            so_far = self._so_far(workers.figures())
            if progress is not None:
                progress(*so_far)
            # As in one process, the time is looked at after an execution, not before the first.
            return self._over(deadline if so_far[0] else None)

        workers = Workers(work, count, look)
        if self._end is None:
            workers.play(Numbers(self.position, schedules, self.shard), self.take)
        self._ends()

    def take(self, batch: Batch) -> None:
        """Count a batch, and store it if nothing before it is missing."""
        self.tally.merge(batch.tally)
        self._end, self.error = batch.end, batch.error
        if batch.first == self.shard.following(self.position):
            self.position = batch.after
            if self.store is not None and (batch.after > batch.first or batch.end is End.EXHAUSTED):
                self.store.commit(batch, self._seconds())

    def _over(self, deadline: float | None) -> bool:
        return self.stop.asked or (deadline is not None and time.monotonic() >= deadline)

    def _ends(self) -> None:
        self.exhausted = self._end is End.EXHAUSTED and self.strategy.exhaustive
        # A second ^C may strike the loop itself, which then ends in any way.
        self.interrupted = self.stop.asked and self._end in {None, End.ERROR}
        if self.interrupted:
            self.error = None

    def _so_far(self, playing: Sequence[Figures]) -> Figures:
        """Return schedules and steps with what is being played, and how many titles at least."""
        tally = self.tally
        titles = max(len(tally.findings), *(found for _, _, found in playing), 0)
        schedules = tally.schedules + sum(played for played, _, _ in playing)
        return schedules, tally.steps + sum(steps for _, steps, _ in playing), titles

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def close(self) -> None:
        """Let go of the store."""
        if self.store is not None:
            self.store.close()

    def _estimates(self) -> bool:
        return self.strategy.exhaustive and self.estimate is None

    async def _estimate(self, stage: Stage, expect: Expect | None) -> None:
        """Estimate how much there is to search for, once that is known not to be little."""
        self.estimate = await estimate_tree(
            self.subject, stage, seed=self.seed, preemptions=self.preemptions
        )
        if expect is not None:
            expect(self.estimate)

    async def finish(self, stage: Stage) -> None:
        """Close what was predicted; replay what was found, shrink it, and keep it."""
        if self._end is not End.FINDING and not (self._refutes() or self.interrupted or self.error):
            closer = Closer(
                self.subject, stage, self.tally, self.strategy_name, self.seed, self._asked
            )
            await closer.close()
        self.findings, errors = await finish(
            self.tally,
            self.subject,
            stage,
            strategy=self.strategy_name,
            seed=self.seed,
            shrinks=self.shrinks,
            enough=self._asked,
        )
        if self.error is None and errors:
            self.error = errors[0]
        over = self.tally.findings or self.error or self.interrupted
        if self.proves and self.exhausted and not over:
            self.proof = await prove(
                self.subject,
                stage,
                preemptions=self.preemptions,
                cycles=self._cycles(),
                second_phase=isinstance(self.strategy, SettlingDfs),
                checks=self.checks,
            )

    def _asked(self) -> bool:
        return self.stop.asked

    def _refutes(self) -> bool:
        """Whether what was predicted cannot happen: no schedule was left out."""
        return self.exhausted and self.preemptions is None

    def _cycles(self) -> bool:
        """Whether paths were cut where a state came again, so that schedules without end are."""
        if isinstance(self.strategy, Stateful):
            return self.strategy.cycles > 0
        return isinstance(self.strategy, SettlingStates)

    def _states(self) -> int | None:
        if isinstance(self.strategy, Stateful | SettlingStates):
            return self.strategy.states
        return self.checks.states if self.checks is not None else None

    def result(self) -> CampaignResult:
        """Return what the campaign came to; findings from the worst."""
        tally = self.tally
        return CampaignResult(
            schedules=tally.schedules,
            steps=tally.steps,
            seconds=self._seconds(),
            exhausted=self.exhausted,
            states=self._states(),
            complaints=self.checks.complaints() if self.checks is not None else None,
            findings=self.findings,
            predicted=() if self._refutes() else tally.predicted(),
            refuted=tally.predicted() if self._refutes() else (),
            warnings=dict(sorted(tally.warnings.items())),
            proof=self.proof,
            cut=tally.cut,
            coverage=tally.coverage,
            estimate=None if self.exhausted else self.estimate,
            interrupted=self.interrupted,
            error=self.error,
        )
