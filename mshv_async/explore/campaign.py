"""The command ``explore``: many executions of one scenario, and what they came to."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mshv_async.explore.catalogue import StrategyError, make_strategy
from mshv_async.explore.drivers import driver_spec
from mshv_async.explore.interrupts import interrupts
from mshv_async.explore.playing import Subject, log_finding, package_version, records
from mshv_async.explore.repro import Repro, TapeEntry, step_table
from mshv_async.explore.results import CampaignResult, FoundFinding, RuntimeDefect
from mshv_async.sim import run_on_stage
from mshv_async.sim.digest import digest, step_lines
from mshv_async.sim.lockorder import LockOrder
from mshv_async.sim.runtime import SEEN
from mshv_async.sim.strategies import Replay, Stateful
from mshv_async.sim.verdicts import severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mshv_async.explore.checking import ModelChecks
    from mshv_async.explore.drivers import Driver
    from mshv_async.explore.results import Progress
    from mshv_async.scenario import Scenario
    from mshv_async.sim import Runtime, Stage, Tape
    from mshv_async.sim.strategies import Strategy

PROGRESS_EVERY = 64


@dataclass
class Tally:
    """What a campaign has come to so far."""

    schedules: int = 0
    steps: int = 0
    findings: dict[str, FoundFinding] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    lock_order: LockOrder = field(default_factory=LockOrder)
    closed: set[str] = field(default_factory=set)  # lock classes of deadlocks; membership only
    edge_schedules: dict[tuple[str, str], int] = field(default_factory=dict)
    cut: int = 0
    fair: int = 0
    exhausted: bool = False
    interrupted: bool = False
    error: Exception | None = None


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

    tally = campaign.tally
    try:
        with interrupts(stop), fewer_collections():
            run_on_stage(act)
    except KeyboardInterrupt:
        tally.interrupted = True
    except Exception as error:
        # A second ^C may strike the loop itself, which then ends in any way.
        tally.interrupted = stop.asked
        if not stop.asked:
            tally.error = error
        if not tally.schedules and not stop.asked:
            raise
    return campaign.result(time.monotonic() - started)


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
    """Plays executions one after the other and gathers findings by title."""

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
        tally = self.tally
        for number in range(schedules):
            if not self.strategy.begin(number):
                tally.exhausted = self.strategy.exhaustive
                break
            checkers = self.checks.for_execution() if self.checks is not None else ()
            rt = await self.subject.play(stage, self.strategy, seed=self.seed, checkers=checkers)
            self._count(rt)
            if self.checks is not None:
                await self.checks.judge(self.subject, stage, rt, checkers)
            if rt.finding is not None:
                await self._found(stage, rt, number + 1)
                if not keep_going:
                    break
            if progress is not None and not number % PROGRESS_EVERY:
                progress(tally.schedules, tally.steps, len(tally.findings))
            if self.stop.asked:
                tally.interrupted = True
                break
            if deadline is not None and time.monotonic() >= deadline:
                break
        else:
            # The budget may end exactly where the tree does.
            tally.exhausted = self.strategy.exhaustive and not self.strategy.begin(schedules)
        if tally.cut or tally.fair:
            # A cut execution was not judged to its end; a fair tail takes no choices.
            tally.exhausted = False

    def _count(self, rt: Runtime) -> None:
        tally = self.tally
        tally.schedules += 1
        tally.steps += rt.steps
        tally.cut += rt.cut not in (None, SEEN)
        tally.fair += rt.fair
        for pair in tally.lock_order.merge(rt.lock_order):
            tally.edge_schedules[pair] = tally.schedules
        for site, count in rt.warnings.items():
            tally.warnings[site] = tally.warnings.get(site, 0) + count

    async def _found(self, stage: Stage, rt: Runtime, number: int) -> None:
        """Replay a finding before it is believed; keep the shortest run of each title."""
        assert rt.finding is not None
        title = rt.finding.title
        if rt.finding.verdict == "deadlock":
            self.tally.closed.update(lock.cls for t in rt.all_threads for lock in t.held)
        known = self.tally.findings.get(title)
        if known is not None and known.steps <= rt.steps:
            self.tally.findings[title] = replace(known, count=known.count + 1)
            return
        again = await self._replay(stage, rt.tape)
        if digest(again) != digest(rt) or again.finding is None or again.finding.title != title:
            raise RuntimeDefect(
                f"execution {number} found {title!r}, but its tape replays to "
                f"{again.finding.title if again.finding else 'clean'!r} "
                f"(departure: {again.departure})"
            )
        finding = log_finding(again)
        assert finding is not None
        self.tally.findings[title] = FoundFinding(
            finding=finding,
            repro=self._repro(again),
            first_schedule=known.first_schedule if known else number,
            count=known.count + 1 if known else 1,
            steps=rt.steps,
            preemptions=len(rt.preempted_at),
            records=records(again),
        )

    async def _replay(self, stage: Stage, tape: Tape) -> Runtime:
        replay = Replay(tuple(tape))
        replay.begin(0)
        return await self.subject.play(stage, replay, seed=self.seed, keep=True)

    def _repro(self, rt: Runtime) -> Repro:
        assert rt.finding is not None
        scenario, driver = self.subject.scenario, self.subject.driver
        return Repro(
            scenario=scenario.text,
            scenario_name=scenario.name,
            files=scenario.files(),
            driver=driver.name,
            driver_source=driver.source,
            strategy=self.strategy_name,
            seed=self.seed,
            decisions=[TapeEntry(*decision) for decision in rt.tape],
            digest=digest(rt),
            verdict=rt.finding.verdict,
            title=rt.finding.title,
            package_version=package_version(),
            steps=step_table(step_lines(rt)),
        )

    def _states(self) -> int | None:
        if isinstance(self.strategy, Stateful):
            return self.strategy.states
        return self.checks.states if self.checks is not None else None

    def result(self, seconds: float) -> CampaignResult:
        """Return what the campaign came to; findings from the worst."""
        tally = self.tally
        findings = sorted(
            tally.findings.values(), key=lambda f: (severity(f.finding.verdict), f.finding.title)
        )
        return CampaignResult(
            schedules=tally.schedules,
            steps=tally.steps,
            seconds=seconds,
            exhausted=tally.exhausted,
            states=self._states(),
            complaints=self.checks.complaints() if self.checks is not None else None,
            findings=findings,
            predicted=_predicted(tally),
            warnings=tally.warnings,
            cut=tally.cut,
            interrupted=tally.interrupted,
            error=tally.error,
        )


def _predicted(tally: Tally) -> list[str]:
    """Return the inversions of lock classes that no deadlock found has closed.

    Each edge names the schedule that first took it; seed and number play it again.
    """
    lines = []
    for cycle in tally.lock_order.inversions():
        if tally.closed.issuperset(cycle):
            continue
        pairs = list(zip(cycle, (*cycle[1:], cycle[0]), strict=True))
        lines.append(
            "; ".join(
                f"{tally.lock_order.edges[pair].thread} takes {pair[1]} under {pair[0]} "
                f"(schedule {tally.edge_schedules[pair]})"
                for pair in pairs
            )
        )
    return lines
