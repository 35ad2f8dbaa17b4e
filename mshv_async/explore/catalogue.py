"""What there is to choose from: scenarios, drivers, patches, strategies, invariants.

The items are what `list --json` prints (formats.md 2). Each kind imports only what it lists.
"""

# ruff: noqa: PLC0415 - listing strategies need not import the driver

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from mshv_async.sim import strategies
from mshv_async.sim.strategies.portfolio import turn_of

if TYPE_CHECKING:
    from mshv_async.explore.numbers import Shard

# By the names of the command line. `replay` is no choice here: it needs a recording.
STRATEGIES: dict[str, type[strategies.Strategy]] = {
    "portfolio": strategies.Portfolio,
    "fifo": strategies.Fifo,
    "random": strategies.RandomWalk,
    "fair": strategies.Fair,
    "pct": strategies.Pct,
    "pos": strategies.Pos,
    "urw": strategies.Urw,
    "starve": strategies.Starve,
    "dfs": strategies.Dfs,
    "stateful": strategies.Stateful,
    "dpor": strategies.Dpor,
}
_BOUNDED = (strategies.Dfs, strategies.Stateful)
#: Ends the name of a strategy whose executions have a second phase, without disturbance.
TWO_PHASE = "+two-phase"
_SETTLING: dict[type[strategies.Strategy], type[strategies.SettlingDfs]] = {
    strategies.Dfs: strategies.SettlingDfs,
    strategies.Stateful: strategies.SettlingStates,
}
_SAMPLING = (strategies.Sampling, strategies.Portfolio)

Item = dict[str, Any]


class StrategyError(Exception):
    """A strategy that does not exist, or an option that it does not have. One line."""


class CatalogueError(ValueError):
    """A kind of thing that there is no list of. One line."""


def make_strategy(name: str, *, seed: int, preemptions: int | None = None) -> strategies.Strategy:
    """Return a fresh strategy. Raises StrategyError.

    `preemptions` bounds the switches of one schedule away from a thread that could have gone on;
    only the exhaustive strategies have such a bound.
    """
    check_strategy(name, preemptions=preemptions)
    cls = strategy_class(name)
    if issubclass(cls, _BOUNDED):
        return _SETTLING[cls](preemptions) if name.endswith(TWO_PHASE) else cls(preemptions)
    made = cls(seed) if issubclass(cls, _SAMPLING) else cls()
    return strategies.TwoPhase(made, seed) if name.endswith(TWO_PHASE) else made


def found_by(name: str, schedule: int) -> str:
    """Return which strategy plays a schedule, from 1: of a portfolio, the member."""
    plain = name.removesuffix(TWO_PHASE)
    return turn_of(schedule - 1)[0] if plain == "portfolio" else plain


def samples(name: str) -> bool:
    """Say whether a strategy's executions are independent samples."""
    return issubclass(strategy_class(name), _SAMPLING)


def check_strategy(name: str, *, preemptions: int | None = None) -> None:
    """Raise StrategyError unless `make_strategy` would succeed."""
    if name.removesuffix(TWO_PHASE) not in STRATEGIES:
        raise StrategyError(f"strategy: found {name!r}; allowed: {', '.join(STRATEGIES)}")
    if name.endswith(TWO_PHASE) and issubclass(strategy_class(name), strategies.Dpor):
        allowed = ", ".join(n for n, cls in STRATEGIES.items() if cls is not strategies.Dpor)
        why = "leaves out states between steps that commute, and the second phase may begin in each"
        raise StrategyError(f"--two-phase: strategy dpor {why}; allowed: {allowed}")
    if preemptions is not None and not issubclass(strategy_class(name), _BOUNDED):
        allowed = "dfs, stateful"
        raise StrategyError(f"--preemptions: strategy {name} has no such bound; allowed: {allowed}")


def strategy_class(name: str) -> type[strategies.Strategy]:
    """Return the class of a strategy, be it with a second phase or not."""
    return STRATEGIES[name.removesuffix(TWO_PHASE)]


def check_parts(name: str, *, workers: int, shard: Shard, resume: bool, check: bool) -> None:
    """Raise StrategyError if a strategy's executions cannot be divided as is asked.

    An exhaustive strategy goes from each execution to the next, in one process without a pause.
    """
    asked = {
        f"--workers {workers}": workers > 1,
        f"--shard {shard}": shard.parts > 1,
        "--resume": resume,
    }
    for option in [option for option, is_asked in asked.items() if is_asked]:
        _check_independent(name, option)
        if check:
            raise StrategyError(f"{option}: --check looks at all executions together; leave it out")


def check_numbered(name: str) -> None:
    """Raise StrategyError if an execution of a strategy cannot be played again by its number."""
    check_strategy(name)
    _check_independent(name, "--schedule")


def _check_independent(name: str, option: str) -> None:
    if strategy_class(name).exhaustive:
        allowed = ", ".join(n for n, cls in STRATEGIES.items() if not cls.exhaustive)
        raise StrategyError(
            f"{option}: strategy {name} needs each execution for the next one; allowed: {allowed}"
        )


def catalogue(kind: str) -> list[Item]:
    """Return the items of a kind, each with `name` and `summary` and what else the kind has.

    `kind`: scenarios, drivers, patches, strategies or invariants; else raises CatalogueError.
    """
    kinds = {
        "scenarios": _scenarios,
        "drivers": _drivers,
        "patches": _patches,
        "strategies": _strategies,
        "invariants": _invariants,
    }
    if kind not in kinds:
        raise CatalogueError(f"kind: found {kind!r}; allowed: {', '.join(kinds)}")
    return kinds[kind]()


def catalogue_text(items: list[Item]) -> str:
    """Render items, a line each: the name, the bugs it can show or mends, the summary."""
    if not items:
        return "(none)"
    width = max(len(item["name"]) for item in items)
    lines = []
    for item in items:
        bugs = f" [{' '.join(item['bugs'])}]" if item.get("bugs") else ""
        lines.append(f"{item['name']:{width}}  {item['summary']}{bugs}")
    return "\n".join(lines)


def _scenarios() -> list[Item]:
    from mshv_async.scenario import list_scenarios

    return [
        {"name": e.name, "summary": e.summary, "path": e.path, "bugs": list(e.bugs)}
        for e in list_scenarios()
    ]


def _drivers() -> list[Item]:
    from mshv_async.driver import list_drivers

    return [
        {"name": name, "summary": summary, "base": base} for name, summary, base in list_drivers()
    ]


def _patches() -> list[Item]:
    from mshv_async.driver import list_patches

    return [
        {
            "name": patch.name,
            "summary": patch.summary,
            "applies_to": list(patch.applies_to),
            "bugs": list(patch.bugs),
        }
        for patch in list_patches()
    ]


def _invariants() -> list[Item]:
    from mshv_async.oracle import invariant_list

    return [{"name": name, "summary": summary} for name, summary in invariant_list()]


def _strategies() -> list[Item]:
    return [
        {"name": name, "summary": _first_line(cls).removeprefix(f"{name}: ")}
        for name, cls in STRATEGIES.items()
    ]


def _first_line(cls: type) -> str:
    """Return what the file that defines `cls` says of itself in its first line."""
    module = inspect.getmodule(cls)
    return (getattr(module, "__doc__", None) or "").strip().partition("\n")[0]
