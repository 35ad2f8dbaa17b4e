"""Concurrent emulator and schedule explorer for the movable guest memory of Linux's mshv driver.

`Scenario`, `explore`, `explore_sync`, `run` and `replay` search and replay; `World` is driven by
tests; `Outcome` and `Verdict` say what it came to. What is named here is imported when it is used:
the command line and the pytest plugin answer without the emulator.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mshv_async.explore.entry import explore, explore_sync, replay, run
    from mshv_async.explore.outcome import Outcome
    from mshv_async.explore.verdict import Verdict
    from mshv_async.scenario import Scenario
    from mshv_async.testing import World

__all__ = [
    "Outcome",
    "Scenario",
    "Verdict",
    "World",
    "explore",
    "explore_sync",
    "replay",
    "run",
]

_HOMES = {
    "Outcome": "mshv_async.explore.outcome",
    "Scenario": "mshv_async.scenario",
    "Verdict": "mshv_async.explore.verdict",
    "World": "mshv_async.testing",
    "explore_sync": "mshv_async.explore.entry",
    "replay": "mshv_async.explore.entry",
    "run": "mshv_async.explore.entry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class _Package(ModuleType):
    """The package, whose `explore` is the function although a room has that name as well.

    Importing the room would put it here under its name; `mshv_async.explore.campaign` and the
    like are imported as ever.
    """

    @property
    def explore(self) -> Any:
        """Return the function."""
        return import_module("mshv_async.explore.entry").explore

    @explore.setter
    def explore(self, room: ModuleType) -> None:
        """Leave the name to the function."""


sys.modules[__name__].__class__ = _Package
