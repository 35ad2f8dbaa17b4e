"""The command ``likelihood``: when the failure of a repro became inevitable."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mshv_async.cli.app import (
    EXPECTED,
    INTERRUPTED,
    UNEXPECTED,
    JsonOpt,
    OriginalOpt,
    ReproArg,
    SeedOpt,
    TrustOpt,
)
from mshv_async.cli.output import show, tell_of_source


def likelihood(
    file: ReproArg,
    *,
    runs: Annotated[
        int, typer.Option("--runs", metavar="M", min=1, help="Continuations at each point.")
    ] = 50,
    seed: SeedOpt = 1,
    points: Annotated[
        int, typer.Option("--points", metavar="K", min=2, help="Points before refinement.")
    ] = 16,
    trust: TrustOpt = False,
    original: OriginalOpt = False,
    json: JsonOpt = False,
) -> int:
    """Show when a failure became inevitable: replay to a step, go on at random."""
    import msgspec

    from mshv_async.explore.likelihood import likelihood as measure
    from mshv_async.explore.likelihood_text import likelihood_text
    from mshv_async.explore.repro import load_trusted, parts_of
    from mshv_async.explore.watching import watched
    from mshv_async.log import terminal_width

    repro = load_trusted(file, trust=trust, original=original)
    tell_of_source(repro, file)
    with parts_of(file), watched(points * runs, enabled=sys.stderr.isatty()) as watch:
        found, steps = measure(
            repro, trust=trust, runs=runs, points=points, seed=seed, progress=watch.progress
        )
    text = likelihood_text(found, steps, width=terminal_width())
    show(msgspec.to_builtins(found) if json else text, titles=[found.title])
    if found.interrupted:
        return INTERRUPTED
    return EXPECTED if found.jump is not None else UNEXPECTED
