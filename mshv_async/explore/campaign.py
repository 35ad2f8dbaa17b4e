"""The command ``explore``: many executions of one scenario, and what they came to."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mshv_async.explore.batches import Batch, End, Player
from mshv_async.explore.catalogue import StrategyError, make_strategy
from mshv_async.explore.drivers import driver_spec
from mshv_async.explore.finishing import finish
from mshv_async.explore.interrupts import interrupts
from mshv_async.explore.playing import Subject
from mshv_async.explore.results import CampaignResult, FoundFinding
from mshv_async.explore.tally import Tally
from mshv_async.sim import run_on_stage
from mshv_async.sim.strategies import Stateful

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from mshv_async.explore.checking import ModelChecks
    from mshv_async.explore.drivers import Driver
    from mshv_async.explore.results import Progress
    from mshv_async.scenario import Scenario
    from mshv_async.sim import Stage
    from mshv_async.sim.strategies import Strategy

PROGRESS_EVERY = 64


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
    strategy: str = "pct",
    schedules: int = 10_000,
    seconds: float | None = None,
    seed: int = 1,
    preemptions: int | None = None,
    workers: int = 1,
    keep_going: bool = False,
    progress: Progress | None = None,
    checks: ModelChecks | None = None,
    stop: Stop | None = None,
) -> CampaignResult:
    """Explore a scenario from synchronous code, up to ``schedules`` executions or ``seconds``.

    Stops at the first finding unless ``keep_going``. ``checks`` runs the model checkers as well.
    Raises DriverError, StrategyError; but what goes wrong after the first execution is the
    result's ``error``, and ^C, or ``stop`` from another thread, only ends the campaign early.
    """
    if workers != 1:
        raise StrategyError(f"--workers {workers}: only 1 worker is built so far")
    stop = stop or Stop()
    campaign = Campaign(
        Subject(scenario, driver_spec(driver), checking=checks is not None),
        make_strategy(strategy, seed=seed, preemptions=preemptions),
        strategy_name=strategy,
        seed=seed,
        checks=checks,
        stop=stop,
    )
    started = time.monotonic()
    deadline = None if seconds is None else started + seconds

    async def act(stage: Stage) -> None:
        await campaign.run(stage, schedules, deadline, keep_going=keep_going, progress=progress)

    with interrupts(stop), fewer_collections():
        _guarded(campaign, act)
        if campaign.error is not None and not campaign.tally.schedules:
            raise campaign.error
        # What was found is shown though the search was interrupted, or broke.
        _guarded(campaign, campaign.finish)
    return campaign.result(time.monotonic() - started)


def _guarded(campaign: Campaign, act: Callable[[Stage], Awaitable[None]]) -> None:
    """Run a part of a campaign; what ends it is the campaign's, not the caller's."""
    try:
        run_on_stage(act)
    except KeyboardInterrupt:
        campaign.interrupted = True
    except Exception as error:
        # A second ^C may strike the loop itself, which then ends in any way.
        campaign.interrupted = campaign.stop.asked
        if not campaign.stop.asked:
            campaign.error = error


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Let the cyclic collector look less often: worlds die whole, a few thousand objects at once.

    With the interpreter's own threshold a sixth of the time goes into looking. Only in the main
    thread: beside other code the collector is not ours.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = gc.get_threshold()
    gc.collect()  # what is garbage now must not be kept by the freeze
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


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
    ) -> None:
        self.stop = stop or Stop()
        self.subject = subject
        self.strategy = strategy
        self.strategy_name = strategy_name
        self.seed = seed
        self.checks = checks
        self.tally = Tally()
        self.findings: Sequence[FoundFinding] = ()
        self.exhausted = False
        self.interrupted = False
        self.error: Exception | None = None

    async def run(
        self,
        stage: Stage,
        schedules: int,
        deadline: float | None,
        *,
        keep_going: bool,
        progress: Progress | None,
    ) -> None:
        """Play up to ``schedules`` executions, until ``deadline`` (monotonic seconds)."""
        player = Player(
            self.subject, self.strategy, seed=self.seed, keep_going=keep_going, checks=self.checks
        )

        def leave(batch: Batch) -> bool:
            if progress is not None and not (batch.after - 1) % PROGRESS_EVERY:
                progress(*self._so_far(batch))
            return self.stop.asked or (deadline is not None and time.monotonic() >= deadline)

        try:
            batch = await player.play(stage, 0, schedules, leave)
        except BaseException:
            self._take(player.batch)
            raise
        self._take(batch)
        if batch.end is None and batch.after == schedules:
            # The budget may end exactly where the tree does.
            self.exhausted = self.strategy.exhaustive and not self.strategy.begin(schedules)
        if self.tally.cut or self.tally.fair:
            # A cut execution was not judged to its end; a fair tail takes no choices.
            self.exhausted = False

    def _so_far(self, batch: Batch) -> tuple[int, int, int]:
        titles = self.tally.findings.keys() | batch.tally.findings.keys()
        counts = (
            self.tally.schedules + batch.tally.schedules,
            self.tally.steps + batch.tally.steps,
        )
        return (*counts, len(titles))

    def _take(self, batch: Batch) -> None:
        self.tally.merge(batch.tally)
        self.exhausted = batch.end is End.EXHAUSTED and self.strategy.exhaustive
        # A second ^C may strike the loop itself, which then ends in any way.
        self.interrupted = self.stop.asked and batch.end in (None, End.ERROR)
        if not self.interrupted:
            self.error = batch.error

    async def finish(self, stage: Stage) -> None:
        """Replay what was found, and keep it for the report."""
        self.findings, errors = await finish(
            self.tally, self.subject, stage, strategy=self.strategy_name, seed=self.seed
        )
        if self.error is None and errors:
            self.error = errors[0]

    def _states(self) -> int | None:
        if isinstance(self.strategy, Stateful):
            return self.strategy.states
        return self.checks.states if self.checks is not None else None

    def result(self, seconds: float) -> CampaignResult:
        """Return what the campaign came to; findings from the worst."""
        tally = self.tally
        return CampaignResult(
            schedules=tally.schedules,
            steps=tally.steps,
            seconds=seconds,
            exhausted=self.exhausted,
            states=self._states(),
            complaints=self.checks.complaints() if self.checks is not None else None,
            findings=self.findings,
            predicted=tally.predicted(),
            warnings=dict(sorted(tally.warnings.items())),
            cut=tally.cut,
            interrupted=self.interrupted,
            error=self.error,
        )
