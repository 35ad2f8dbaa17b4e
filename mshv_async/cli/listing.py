"""The command ``list``: what there is to choose from."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

from typing import Annotated

import typer

from mshv_async.cli.app import EXPECTED, JsonOpt
from mshv_async.cli.output import show


def list_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="scenarios, drivers, patches, strategies or invariants."
        ),
    ],
    *,
    json: JsonOpt = False,
) -> int:
    """List scenarios, drivers, patches, strategies or invariants."""
    from mshv_async.explore.catalogue import catalogue, catalogue_text

    items = catalogue(kind)
    show({"items": items} if json else catalogue_text(items))
    return EXPECTED
