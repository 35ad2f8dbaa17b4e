"""The program that the commands are of, its exit statuses, and options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXPECTED, UNEXPECTED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

PROGRAM = "mshv-async"

app = typer.Typer(
    name=PROGRAM,
    help="Emulate the mshv driver's movable guest memory and explore its interleavings.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


ScenarioArg = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A file, or the name of a shipped scenario.")
]
DriverOpt = Annotated[
    str,
    typer.Option("--driver", metavar="D", help="Profile, profile+patch…, or file.py:Class."),
]
ReproArg = Annotated[
    Path, typer.Argument(metavar="FILE.repro.json", help="What explore or run --repro wrote.")
]
StrategyOpt = Annotated[
    str, typer.Option("--strategy", metavar="S", help="How to search; see list strategies.")
]
TrustOpt = Annotated[bool, typer.Option("--trust", help="Run driver source that the file carries.")]
OriginalOpt = Annotated[
    bool, typer.Option("--original", help="The run as it was found, before it was shrunk.")
]
SeedOpt = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Of all that is left to chance.")
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
LogOpt = Annotated[
    Path | None, typer.Option("--log", metavar="FILE.jsonl", help="Keep the run's events here.")
]


def _version(*, asked: bool) -> None:
    if asked:
        from mshv_async.explore.playing import package_version  # noqa: PLC0415 - `--help` is quick

        typer.echo(f"{PROGRAM} {package_version()}")
        raise typer.Exit


@app.callback()
def _commands(
    *,
    _asked: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Keep `run` and the others as commands of one program."""
