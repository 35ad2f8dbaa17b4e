"""The command ``run``: one execution in virtual or real time."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

import shlex
from typing import Annotated

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


def run(
    scenario: ScenarioArg,
    *,
    driver: DriverOpt = "v6",
    seed: SeedOpt = 1,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Run on asyncio's own loop, undirected.")
    ] = False,
    log: LogOpt = None,
    json: JsonOpt = False,
) -> int:
    """Run a scenario once, in virtual time."""
    from mshv_async.explore.outcome import run_outcome
    from mshv_async.explore.single import run_scenario
    from mshv_async.explore.summary import run_text
    from mshv_async.scenario import Scenario

    situation = Scenario.load(scenario)
    check_writable(log)
    result = run_scenario(situation, driver, seed, realtime=realtime, keep_log=log is not None)
    if log is not None:
        command = f"{PROGRAM} run {shlex.quote(scenario)} --driver {shlex.quote(driver)}"
        keep_log(log, result, "" if realtime else f"{command} --seed {seed}")
    outcome = run_outcome(
        result,
        scenario=situation.name,
        driver=driver,
        seed=seed,
        expected=situation.expected(driver),
        log=log,
    )
    show(outcome.object() if json else run_text(outcome, result), titles=[result.title])
    return EXPECTED if outcome.as_expected else UNEXPECTED
