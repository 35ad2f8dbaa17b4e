"""The command ``list``: what there is to choose from."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mshv_async.cli.app import EXPECTED, JsonOpt
from mshv_async.cli.output import show


class ListKind(StrEnum):
    """What `list` lists."""

    SCENARIOS = "scenarios"
    DRIVERS = "drivers"
    PATCHES = "patches"
    STRATEGIES = "strategies"
    INVARIANTS = "invariants"


def list_(kind: Annotated[ListKind, typer.Argument()], *, json: JsonOpt = False) -> int:
    """List scenarios, drivers, patches, strategies or invariants."""
    from mshv_async.explore.catalogue import catalogue, catalogue_text

    items = catalogue(kind.value)
    show({"items": items} if json else catalogue_text(items))
    return EXPECTED
