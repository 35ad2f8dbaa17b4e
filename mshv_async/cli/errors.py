"""What to tell a user of an error: one line, and no traceback."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

from mshv_async.cli.app import PROGRAM


def user_error(error: Exception) -> str | None:
    """Return what to tell the user in one line, or None where the program itself is at fault.

    The command line's own errors are told by their shape: their classes have moved between
    click and typer.
    """
    message = getattr(error, "format_message", None)
    if callable(message):
        return str(message())
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}"
    if is_defect(error):
        return f"a defect of {PROGRAM}, not of the driver: {error}"
    if is_nondeterminism(error):
        return f"{error}: something in it is not the execution's own (random, time, a set's order?)"
    return str(error) if isinstance(error, _input_errors()) else None


def is_defect(error: Exception) -> bool:
    """Say whether it is a finding that did not replay, so that nobody may believe it."""
    from mshv_async.explore.results import RuntimeDefect

    return isinstance(error, RuntimeDefect)


def is_nondeterminism(error: Exception) -> bool:
    """Say whether an execution went otherwise when it was played again."""
    from mshv_async.explore.results import NotDeterministic

    return isinstance(error, NotDeterministic)


def is_departure(error: Exception) -> bool:
    """Say whether a repro no longer replays: sound input, but not the outcome that it records."""
    from mshv_async.explore.repro import Departed

    return isinstance(error, Departed)


def is_unexpected(error: Exception) -> bool:
    """Say whether an error is what an execution came to, and not a user's mistake."""
    return is_defect(error) or is_departure(error) or is_nondeterminism(error)


def _input_errors() -> tuple[type[Exception], ...]:
    from mshv_async.driver import DriverError
    from mshv_async.explore.bisecting import BisectError
    from mshv_async.explore.catalogue import CatalogueError, StrategyError
    from mshv_async.explore.repro import ReproError
    from mshv_async.explore.results import CampaignError
    from mshv_async.log import LogError
    from mshv_async.scenario import ScenarioError

    return (
        BisectError,
        CampaignError,
        CatalogueError,
        DriverError,
        StrategyError,
        ReproError,
        LogError,
        ScenarioError,
    )
