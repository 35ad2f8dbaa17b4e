"""The command ``diff``: where two logs or repros part."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mshv_async.cli.app import EXPECTED, UNEXPECTED, JsonOpt, TrustOpt
from mshv_async.cli.output import show, tell_of_source


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A log, or a repro, which is replayed.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    *,
    trust: TrustOpt = False,
    json: JsonOpt = False,
) -> int:
    """Show the first step where two runs part, and what each thread was doing."""
    import msgspec

    from mshv_async.explore.comparing import compare
    from mshv_async.log import difference_text, terminal_width

    found = compare(a, b, trust=trust, tell=tell_of_source)
    text = difference_text(found, terminal_width())
    show(msgspec.to_builtins(found) if json else text)
    return EXPECTED if found.same else UNEXPECTED
