"""What the arguments of the marker ``mshv`` mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mshv_async.driver import V6, DriverError, DriverSpec
from mshv_async.explore.catalogue import StrategyError, check_strategy
from mshv_async.explore.drivers import driver_spec
from mshv_async.scenario import Scenario, ScenarioError
from mshv_async.testing.world import SAMPLING, check_programs

if TYPE_CHECKING:
    import pytest

ALLOWED: Final = ("scenario", "driver", "seeds", "strategy", "programs")
SEEDS_MAX: Final = 100_000


class MarkerError(ValueError):
    """Arguments of the marker that mean nothing. One line."""


@dataclass(frozen=True, slots=True)
class Play:
    """One item of a marked test."""

    scenario: Scenario
    driver: DriverSpec
    seed: int
    strategy: str
    programs: tuple[str, ...]


def plays(mark: pytest.Mark, folder: Path) -> list[Play]:
    """Return what a marker asks for, an item for each seed; files are looked for in `folder` first.

    Raises MarkerError.
    """
    given = dict(mark.kwargs)
    if len(mark.args) > 1 or (mark.args and "scenario" in given):
        raise MarkerError("found several scenarios; allowed: one, and the rest by name")
    if mark.args:
        given["scenario"] = mark.args[0]
    for name in given:
        if name not in ALLOWED:
            raise MarkerError(f"found {name!r}; allowed: {', '.join(ALLOWED)}")
    if "scenario" not in given:
        raise MarkerError("found no scenario; allowed: a file, a shipped name or a Scenario")
    strategy = given.get("strategy", "portfolio")
    try:
        scenario = _scenario(given["scenario"], folder)
        driver = _driver(given.get("driver", "v6"), folder)
        check_strategy(strategy)
        programs = check_programs(scenario, given.get("programs", False))
    except (ScenarioError, DriverError, StrategyError, LookupError) as error:
        raise MarkerError(" ".join(str(error).split())) from None
    if strategy not in SAMPLING:
        raise MarkerError(f"strategy: found {strategy!r}; allowed: {', '.join(SAMPLING)}")
    seeds = _seeds(given.get("seeds", (1,)))
    return [Play(scenario, driver, seed, strategy, programs) for seed in seeds]


def _scenario(given: Any, folder: Path) -> Scenario:
    if isinstance(given, Scenario):
        return given
    if not isinstance(given, str | Path):
        raise MarkerError(f"scenario: found {given!r}; allowed: a file, a name or a Scenario")
    beside = folder / given
    return Scenario.load(beside if beside.is_file() else given)


def _driver(given: Any, folder: Path) -> DriverSpec:
    if not isinstance(given, str | DriverSpec) and not (
        isinstance(given, type) and issubclass(given, V6)
    ):
        raise MarkerError(f"driver: found {given!r}; allowed: a name, a class or file.py:Class")
    if isinstance(given, str):
        file = given.rpartition(":")[0]
        if file.endswith(".py") and (folder / file).is_file():
            given = f"{folder / given}"
    return driver_spec(given)


def _seeds(given: Any) -> list[int]:
    allowed = f"at most {SEEDS_MAX} different whole numbers from 0 on, such as range(8)"
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise MarkerError(f"seeds: found {given!r}; allowed: {allowed}")
    seeds: list[int] = []
    for seed in given:
        if (
            not isinstance(seed, int)
            or isinstance(seed, bool)
            or seed < 0
            or len(seeds) == SEEDS_MAX
        ):
            raise MarkerError(f"seeds: found {seed!r}; allowed: {allowed}")
        seeds.append(seed)
    if not seeds or len(set(seeds)) < len(seeds):
        found = "none" if not seeds else "a seed twice"
        raise MarkerError(f"seeds: found {found}; allowed: {allowed}")
    return seeds
