"""The command line, a module for each command (formats.md 2).

Exit status: 0 the outcome is the expected one; 1 it is not; 2 bad usage or bad input, said in one
line on standard error; 130 interrupted, with what was found so far kept. What a command needs is
imported when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.cli import analyze, bisect, diff, explore, likelihood, listing, merge, replay, run
from mshv_async.cli.app import BAD_INPUT, EXPECTED, INTERRUPTED, PROGRAM, UNEXPECTED, app
from mshv_async.cli.errors import is_unexpected, user_error
from mshv_async.cli.output import complain, leave_the_pipe, open_streams, show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main", "show"]

COMMANDS: dict[str, Callable[..., int]] = {
    "run": run.run,
    "explore": explore.explore,
    "merge": merge.merge,
    "replay": replay.replay,
    "likelihood": likelihood.likelihood,
    "bisect": bisect.bisect,
    "analyze": analyze.analyze,
    "diff": diff.diff,
    "list": listing.list_,
}
"""By name, in the order of the help."""

for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line (`args` default to the process's) and return its exit status."""
    open_streams()
    try:
        # Typer answers Ctrl-C with 130 and a closed pipe with 1; what it returns is our status,
        # or None after --help.
        status = app(args=args, prog_name=PROGRAM, standalone_mode=False) or EXPECTED
    except BrokenPipeError:
        leave_the_pipe()
        return UNEXPECTED
    except Exception as error:
        text = user_error(error)
        if text is None:
            raise
        complain(text)
        return UNEXPECTED if is_unexpected(error) else BAD_INPUT
    if status == INTERRUPTED:
        complain("interrupted")
    return int(status)
