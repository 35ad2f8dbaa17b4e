"""The command ``explore``: many executions, and what they came to."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mshv_async.cli.app import (
    EXPECTED,
    INTERRUPTED,
    UNEXPECTED,
    DriverOpt,
    JsonOpt,
    ScenarioArg,
    SeedOpt,
    StrategyOpt,
)
from mshv_async.cli.output import show


def explore(
    scenario: ScenarioArg,
    *,
    driver: DriverOpt = "v6",
    strategy: StrategyOpt = "portfolio",
    preemptions: Annotated[
        int | None,
        typer.Option("--preemptions", metavar="N", min=0, help="At most N in one schedule."),
    ] = None,
    schedules: Annotated[
        int, typer.Option("--schedules", metavar="N", min=1, help="Play at most so many.")
    ] = 10_000,
    seconds: Annotated[
        float | None, typer.Option("--time", metavar="SECONDS", min=0, help="Stop after this.")
    ] = None,
    seed: SeedOpt = 1,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, help="So many processes.")
    ] = 1,
    shard: Annotated[
        str, typer.Option("--shard", metavar="K/N", help="Play the K-th of N parts; see merge.")
    ] = "1/1",
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Use the whole budget; do not stop at a finding.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check the model itself too, and count its states.")
    ] = False,
    two_phase: Annotated[
        bool,
        typer.Option(
            "--two-phase",
            help="From some decision on nothing fails or interferes: what is under way must end.",
        ),
    ] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Play each execution again and end if one differs.")
    ] = False,
    shrink: Annotated[
        bool,
        typer.Option("--shrink/--no-shrink", help="Make each finding as small as it gets."),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Default: a dated folder in mshv-async-runs/."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the campaign in --out DIR.")
    ] = False,
    json: JsonOpt = False,
) -> int:
    """Explore many interleavings of a scenario."""
    from mshv_async.explore.campaign import explore_sync
    from mshv_async.explore.catalogue import TWO_PHASE, check_parts, check_strategy
    from mshv_async.explore.checking import ModelChecks
    from mshv_async.explore.drivers import driver_spec
    from mshv_async.explore.numbers import Shard
    from mshv_async.explore.outcome import campaign_outcome
    from mshv_async.explore.saving import output_folder, save_campaign, save_outcome
    from mshv_async.explore.watching import watched
    from mshv_async.scenario import Scenario

    strategy += TWO_PHASE if two_phase else ""
    check_strategy(strategy, preemptions=preemptions)
    part = Shard.parse(shard)
    check_parts(strategy, workers=workers, shard=part, resume=resume, check=check)
    situation = Scenario.load(scenario)
    spec = driver_spec(driver)
    folder = output_folder(out, situation.name, resume=resume)
    with watched(schedules, enabled=sys.stderr.isatty()) as watch:
        campaign = explore_sync(
            situation,
            spec,
            strategy=strategy,
            schedules=schedules,
            seconds=seconds,
            seed=seed,
            preemptions=preemptions,
            workers=workers,
            keep_going=keep_going,
            shrink=shrink,
            proves=True,
            progress=watch.progress,
            expect=watch.expect,
            checks=ModelChecks() if check else None,
            shard=part,
            store=folder,
            resume=resume,
            audit=audit,
        )
    repros = save_campaign(folder, campaign)
    outcome = campaign_outcome(
        campaign,
        scenario=situation.name,
        driver=driver,
        strategy=strategy,
        seed=seed,
        expected=situation.expected(driver),
        repros=repros,
        preemptions=preemptions,
        workers=workers,
        shard=str(part),
    )
    save_outcome(folder, outcome.object())
    text = f"{outcome.report()}\nsaved in {folder}"
    show(outcome.object() if json else text, titles=[bug.title for bug in outcome.findings])
    if campaign.error is not None:
        raise campaign.error
    if campaign.interrupted:
        return INTERRUPTED
    return EXPECTED if outcome.as_expected else UNEXPECTED
