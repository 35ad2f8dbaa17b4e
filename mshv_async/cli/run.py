"""The command ``run``: one execution in virtual or real time."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mshv_async.cli.app import (
    EXPECTED,
    PROGRAM,
    UNEXPECTED,
    DriverOpt,
    JsonOpt,
    LogOpt,
    ScenarioArg,
    SeedOpt,
)
from mshv_async.cli.output import check_writable, keep_log, show

if TYPE_CHECKING:
    from mshv_async.explore.outcome import RunOutcome
    from mshv_async.explore.results import RunResult
    from mshv_async.scenario import Scenario


def run(
    scenario: ScenarioArg,
    *,
    driver: DriverOpt = "v6",
    seed: SeedOpt = 1,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Run on asyncio's own loop, undirected.")
    ] = False,
    schedule: Annotated[
        int | None,
        typer.Option("--schedule", metavar="N", min=1, help="Play schedule N of explore instead."),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy", metavar="S", help="With --schedule: of this strategy, else portfolio."
        ),
    ] = None,
    repro: Annotated[
        Path | None,
        typer.Option("--repro", metavar="FILE", help="With --schedule: keep what replays it."),
    ] = None,
    log: LogOpt = None,
    json: JsonOpt = False,
) -> int:
    """Run a scenario once: in virtual time, in real time, or one schedule of a search."""
    if schedule is not None:
        if realtime:
            raise typer.BadParameter("--realtime: a schedule is played on the simulated loop")
        chosen = "portfolio" if strategy is None else strategy
        return _run_schedule(
            scenario, driver, schedule, chosen, seed=seed, repro=repro, log=log, json=json
        )
    if strategy is not None:
        raise typer.BadParameter("--strategy: only a schedule has one; give --schedule N")
    if repro is not None:
        raise typer.BadParameter("--repro: only a schedule can be replayed; give --schedule N")
    return _run_once(scenario, driver, seed=seed, realtime=realtime, log=log, json=json)


def _run_once(
    scenario: str, driver: str, *, seed: int, realtime: bool, log: Path | None, json: bool
) -> int:
    from mshv_async.explore.single import run_scenario
    from mshv_async.explore.summary import run_text
    from mshv_async.scenario import Scenario

    situation = Scenario.load(scenario)
    check_writable(log)
    result = run_scenario(situation, driver, seed, realtime=realtime, keep_log=log is not None)
    if log is not None:
        command = f"{PROGRAM} run {shlex.quote(scenario)} --driver {shlex.quote(driver)}"
        keep_log(log, result, "" if realtime else f"{command} --seed {seed}")
    outcome = _judged(result, situation, driver, seed, log)
    show(outcome.object() if json else run_text(outcome, result), titles=[result.title])
    return EXPECTED if outcome.as_expected else UNEXPECTED


def _run_schedule(
    scenario: str,
    driver: str,
    schedule: int,
    strategy: str,
    *,
    seed: int,
    repro: Path | None,
    log: Path | None,
    json: bool,
) -> int:
    from mshv_async.explore.numbered import play_numbered
    from mshv_async.explore.repro import save_repro
    from mshv_async.explore.summary import schedule_text
    from mshv_async.scenario import Scenario

    situation = Scenario.load(scenario)
    for path in (repro, log):
        check_writable(path)
    result, recorded = play_numbered(situation, driver, schedule, strategy=strategy, seed=seed)
    if log is not None:
        command = (
            f"{PROGRAM} run {shlex.quote(scenario)} --driver {shlex.quote(driver)} --seed {seed} "
            f"--strategy {strategy} --schedule {schedule}"
        )
        keep_log(log, result, command)
    if repro is not None:
        save_repro(repro, recorded)
    outcome = _judged(result, situation, driver, seed, log)
    kept = None if repro is None else str(repro.absolute())
    more = {"strategy": strategy, "schedule": schedule, "repro": kept}
    text = schedule_text(outcome, result, schedule, kept)
    show(outcome.object() | more if json else text, titles=[result.title])
    return EXPECTED if outcome.as_expected else UNEXPECTED


def _judged(
    result: RunResult, situation: Scenario, driver: str, seed: int, log: Path | None
) -> RunOutcome:
    from mshv_async.explore.outcome import run_outcome

    return run_outcome(
        result,
        scenario=situation.name,
        driver=driver,
        seed=seed,
        expected=situation.expected(driver),
        log=log,
    )
