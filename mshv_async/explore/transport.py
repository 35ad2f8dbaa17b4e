"""What a worker process is told, in a form that it can take: all of it is made again there.

A scenario goes as its text; a driver by its name, its module, or the text of its file.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from functools import reduce
from typing import Any

from mshv_async.driver import DriverError, DriverSpec, resolve_driver
from mshv_async.explore.batches import Player
from mshv_async.explore.catalogue import make_strategy
from mshv_async.explore.drivers import driver_spec
from mshv_async.explore.playing import Subject
from mshv_async.scenario import Scenario


@dataclass(frozen=True, slots=True)
class DriverReference:
    """What makes a driver again in another process.

    ``module`` if its class is to be imported from there, else ``source``, the text of the file in
    its ``name``, else the name alone.
    """

    name: str
    source: str | None = None
    module: str | None = None
    qualname: str = ""

    @classmethod
    def of(cls, spec: DriverSpec) -> DriverReference:
        """Return the reference of a driver. Raises DriverError: no other process can make it."""
        made = _by_name(spec.name)
        if made is not None and made.__bases__ == spec.cls.__bases__:
            return cls(spec.name)
        if _importable(spec.cls):
            return cls(spec.name, spec.source, spec.cls.__module__, spec.cls.__qualname__)
        if spec.source is not None:
            return cls(spec.name, spec.source)
        raise DriverError(
            f"driver {spec.cls.__qualname__}: a worker process cannot import it: define the class "
            "at the top of a module, or use one worker"
        )

    def spec(self) -> DriverSpec:
        """Make the driver. Raises DriverError where the module or the file does not do so here."""
        if self.module is not None:
            try:
                found: Any = reduce(
                    getattr, self.qualname.split("."), importlib.import_module(self.module)
                )
            except (ImportError, AttributeError) as error:
                if self.source is None:
                    raise DriverError(
                        f"driver {self.qualname}: a worker process cannot import it: {error}"
                    ) from None
            else:
                return DriverSpec(self.name, found, driver_spec(found).base, source=self.source)
        try:
            return resolve_driver(self.name, self.source)
        except DriverError as error:
            if self.source is None:
                raise
            raise DriverError(
                f"{error}; a worker process loads the file again: keep what it starts under "
                '`if __name__ == "__main__":`'
            ) from error


def _by_name(name: str) -> type | None:
    """Return the class that a profile's name stands for, with or without patches."""
    if ".py:" in name:
        return None
    try:
        return resolve_driver(name).cls
    except DriverError:
        return None


def _importable(cls: type) -> bool:
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        return False
    module = sys.modules.get(cls.__module__)
    try:
        return reduce(getattr, cls.__qualname__.split("."), module) is cls  # type: ignore[comparison-overlap]
    except AttributeError:
        return False


@dataclass(frozen=True, slots=True)
class Work:
    """What every worker of a campaign is told: how executions are played."""

    scenario: str
    scenario_name: str
    files: dict[str, str]
    driver: DriverReference
    strategy: str
    seed: int
    preemptions: int | None
    keep_going: bool
    audited: bool

    @classmethod
    def of(
        cls,
        subject: Subject,
        strategy: str,
        *,
        seed: int,
        preemptions: int | None,
        keep_going: bool,
        audited: bool,
    ) -> Work:
        """Return what makes a player elsewhere. Raises DriverError."""
        scenario = subject.scenario
        return cls(
            scenario.text,
            scenario.name,
            scenario.files(),
            DriverReference.of(subject.driver),
            strategy,
            seed,
            preemptions,
            keep_going,
            audited,
        )

    def player(self) -> Player:
        """Return who plays it in this process. Raises DriverError."""
        scenario = Scenario.parse(self.scenario, self.scenario_name, files=self.files)
        strategy, shadow = (
            make_strategy(self.strategy, seed=self.seed, preemptions=self.preemptions)
            for _ in range(2)
        )
        return Player(
            Subject(scenario, self.driver.spec()),
            strategy,
            seed=self.seed,
            keep_going=self.keep_going,
            shadow=shadow if self.audited else None,
        )
