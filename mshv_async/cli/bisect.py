"""The command ``bisect``: which patches between two drivers decide the verdict."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mshv_async.cli.app import EXPECTED, INTERRUPTED, JsonOpt, ScenarioArg, SeedOpt, StrategyOpt
from mshv_async.cli.output import show


def bisect(
    scenario: ScenarioArg,
    *,
    good: Annotated[
        str,
        typer.Option("--good", metavar="D", help="A driver without the failure: profile+patch…."),
    ],
    bad: Annotated[str, typer.Option("--bad", metavar="D", help="A driver with it.")],
    verdict: Annotated[
        str | None,
        typer.Option(
            "--verdict", metavar="V", help="Only this verdict is bad; others are passed over."
        ),
    ] = None,
    strategy: StrategyOpt = "portfolio",
    schedules: Annotated[
        int, typer.Option("--schedules", metavar="N", min=1, help="At most, for each driver.")
    ] = 2_000,
    seed: SeedOpt = 1,
    json: JsonOpt = False,
) -> int:
    """Name the patches between two drivers whose presence decides the verdict."""
    import msgspec

    from mshv_async.explore.bisecting import bisect as search
    from mshv_async.explore.bisecting_text import bisection_text
    from mshv_async.explore.catalogue import check_strategy
    from mshv_async.explore.watching import watched
    from mshv_async.scenario import Scenario

    check_strategy(strategy)
    situation = Scenario.load(scenario)
    with watched(schedules, enabled=sys.stderr.isatty()) as watch:
        found = search(
            situation,
            good,
            bad,
            strategy=strategy,
            schedules=schedules,
            seed=seed,
            verdict=verdict,
            progress=watch.progress,
        )
    show(msgspec.to_builtins(found) if json else bisection_text(found))
    return INTERRUPTED if found.interrupted else EXPECTED
