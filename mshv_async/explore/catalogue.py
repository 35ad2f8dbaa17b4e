"""What there is to choose from: scenarios, drivers, patches, strategies, invariants."""

from __future__ import annotations

import inspect
from typing import Any

from mshv_async.sim import strategies

# By the names of the command line. `replay` is no choice here: it needs a recording.
STRATEGIES: dict[str, type[strategies.Strategy]] = {
    "fifo": strategies.Fifo,
    "random": strategies.RandomWalk,
    "pct": strategies.Pct,
    "dfs": strategies.Dfs,
}


class StrategyError(Exception):
    """A strategy that does not exist. Its text is one line."""


def check_strategy(name: str) -> None:
    """Raise StrategyError unless there is a strategy of this name."""
    if name not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise StrategyError(f"no strategy {name!r}: known are {known}")


def strategy_items() -> list[dict[str, Any]]:
    """Return name and summary of each strategy; the summary is its file's first line."""
    items = []
    for name, kind in STRATEGIES.items():
        module = inspect.getmodule(kind)
        first = (module.__doc__ or "").strip().partition("\n")[0]
        items.append({"name": name, "summary": first.removeprefix(f"{name}: ")})
    return items
