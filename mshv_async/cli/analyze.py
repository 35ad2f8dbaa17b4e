"""The command ``analyze``: what a log says."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mshv_async.cli.app import EXPECTED, UNEXPECTED, JsonOpt
from mshv_async.cli.output import show


def analyze(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.jsonl", help="What --log of a command wrote.")
    ],
    other: Annotated[
        Path | None, typer.Argument(metavar="OTHER.jsonl", help="Show where the two part.")
    ] = None,
    *,
    json: JsonOpt = False,
) -> int:
    """Report on a log: what happened, who waited for whom, locks, threads, the region."""
    import msgspec

    from mshv_async.log import analysis_text, difference, difference_text, terminal_width
    from mshv_async.log import analyze as analyze_log

    if other is None:
        analysis = analyze_log(file)
        text = analysis_text(analysis, terminal_width())
        titles = [text.partition("\n")[0]] if analysis.failed else []
        show(msgspec.to_builtins(analysis) if json else text, titles=titles)
        return EXPECTED
    found = difference(file, other)
    show(msgspec.to_builtins(found) if json else difference_text(found, terminal_width()))
    return EXPECTED if found.same else UNEXPECTED
