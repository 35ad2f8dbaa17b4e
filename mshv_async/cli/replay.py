"""The command ``replay``: one recorded schedule, step for step."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

from typing import Annotated

import typer

from mshv_async.cli.app import (
    EXPECTED,
    UNEXPECTED,
    JsonOpt,
    LogOpt,
    OriginalOpt,
    ReproArg,
    TrustOpt,
)
from mshv_async.cli.output import check_writable, keep_log, show, tell_of_source


def replay(
    file: ReproArg,
    *,
    columns: Annotated[
        bool, typer.Option("--columns", help="Show the interleaving, a column for each thread.")
    ] = False,
    log: LogOpt = None,
    trust: TrustOpt = False,
    original: OriginalOpt = False,
    json: JsonOpt = False,
) -> int:
    """Replay one recorded schedule, step for step."""
    from mshv_async.explore.outcome import expect_table, replay_outcome
    from mshv_async.explore.repro import load_trusted, parts_of
    from mshv_async.explore.single import replay_repro
    from mshv_async.explore.summary import replay_command, replay_text
    from mshv_async.scenario import expected_for

    repro = load_trusted(file, trust=trust, original=original)
    check_writable(log)
    tell_of_source(repro, file)
    with parts_of(file):
        result = replay_repro(repro, trust)
    if log is not None:
        command = replay_command(str(file.resolve()), repro)
        keep_log(log, result.run, f"{command} --original" if original else command)
    expected = expected_for(expect_table(repro.scenario), repro.driver)
    outcome = replay_outcome(result, repro, expected=expected, log=log)
    text = replay_text(outcome, result, with_columns=columns)
    show(outcome.object() if json else text, titles=[outcome.title])
    return EXPECTED if outcome.as_expected and outcome.matches else UNEXPECTED
