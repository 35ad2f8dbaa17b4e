"""What the program writes: results on standard output, complaints, logs."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mshv_async.cli.app import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.explore.repro import Repro
    from mshv_async.explore.results import RunResult


def open_streams() -> None:
    """Let what is written to a stream that was closed before the start, as by `>&-`, be lost.

    In the order of their numbers, which are free: no other file may get one of them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - it stays open


def leave_the_pipe() -> None:
    """Say nothing more to a reader that went away, as `head` does, not even on the way out."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def complain(text: str) -> None:
    """Say `text` in one line on standard error."""
    sys.stderr.write(f"{PROGRAM}: {' '.join(text.split())}\n")


def tell_of_source(repro: Repro, path: Path) -> None:
    """Say that a repro's own driver source is about to run."""
    if repro.driver_source is not None:
        complain(f"running the driver source that {path} carries ({repro.driver})")


def show(what: str | dict[str, Any], *, titles: Sequence[str] = ()) -> None:
    """Print one JSON object, or a text: on a terminal with its lines in `titles` in colour."""
    if isinstance(what, dict):
        import msgspec

        what = msgspec.json.encode(what).decode()
    elif sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        lines = what.split("\n")
        what = "\n".join(f"\x1b[1;31m{x}\x1b[0m" if x in titles else x for x in lines)
    encoding = sys.stdout.encoding or "utf-8"
    # A terminal that knows no "…" still shows the rest.
    sys.stdout.write(what.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


def check_writable(log: Path | None) -> None:
    """Raise OSError now rather than after the run if the log cannot be written."""
    from mshv_async.explore.saving import check_takes_files

    if log is None:
        return
    if log.exists():
        log.open("ab").close()
    else:
        check_takes_files(log.parent)


def keep_log(path: Path, run: RunResult, command: str) -> None:
    """Write the log of a run that was kept; `command` runs it again."""
    import msgspec

    from mshv_async.explore.results import log_verdict
    from mshv_async.log import write_log

    header = msgspec.structs.replace(run.header, command=command)
    write_log(path, header, run.records, log_verdict(run))
