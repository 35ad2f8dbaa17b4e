"""One execution of an exploration, played again by its number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.explore.catalogue import check_numbered, make_strategy
from mshv_async.explore.drivers import driver_spec
from mshv_async.explore.finishing import repro_of
from mshv_async.explore.interrupts import interrupts
from mshv_async.explore.playing import Subject, run_result
from mshv_async.sim import run_on_stage

if TYPE_CHECKING:
    from mshv_async.explore.drivers import Driver
    from mshv_async.explore.repro import Repro
    from mshv_async.explore.results import RunResult
    from mshv_async.scenario import Scenario
    from mshv_async.sim import Runtime, Stage
    from mshv_async.sim.strategies import Strategy


def play_numbered(
    scenario: Scenario, driver: Driver, schedule: int, *, strategy: str, seed: int
) -> tuple[RunResult, Repro]:
    """Play schedule number `schedule`, from 1, as `explore` does; also return its repro.

    Those first executions that it depends on are played before. Raises StrategyError for a
    strategy whose executions have to be played one after the other.
    """
    check_numbered(strategy)
    subject = Subject(scenario, driver_spec(driver))
    player = make_strategy(strategy, seed=seed)

    async def act(stage: Stage) -> Runtime:
        return await play_schedule(subject, stage, player, schedule, seed=seed, keep=True)

    with interrupts():
        rt = run_on_stage(act)
    run = run_result(subject, rt, strategy, seed, keep=True)
    return run, repro_of(rt, subject, strategy=strategy, seed=seed)


async def play_schedule(
    subject: Subject,
    stage: Stage,
    strategy: Strategy,
    schedule: int,
    *,
    seed: int,
    keep: bool = False,
) -> Runtime:
    """Play schedule number `schedule`, from 1, of a fresh strategy, after those it depends on."""
    for number in range(min(strategy.probes, schedule - 1)):
        strategy.begin(number)
        await subject.play(stage, strategy, seed=seed)
    strategy.begin(schedule - 1)
    return await subject.play(stage, strategy, seed=seed, keep=keep)
