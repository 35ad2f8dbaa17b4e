"""Drivers as people give them: a name, a class, or a file's class; checked before anything runs."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mshv_async.driver import PROFILES, V6, DriverError, DriverSpec, resolve_driver

if TYPE_CHECKING:
    from collections.abc import Callable

Driver: TypeAlias = "str | type[V6] | DriverSpec"
"""What names a driver: `v9+check-access`, `file.py:Class`, or a class derived from a profile's."""


def driver_spec(driver: Driver) -> DriverSpec:
    """Return the driver that is meant. Raises DriverError, one line, where it cannot be run."""
    if isinstance(driver, DriverSpec):
        return driver
    if isinstance(driver, str):
        try:
            spec = resolve_driver(driver)
        except SystemExit as error:
            file = driver.rpartition(":")[0]
            raise DriverError(f"{file} does not import: it ends the program ({error!r})") from None
    else:
        spec = _of_class(driver)
    if spec.cls.__module__ != V6.__module__:
        _check_arity(spec)
    return spec


def is_shipped(spec: DriverSpec) -> bool:
    """Say whether all of a driver's code is the package's own, and none a user's."""
    return all(c.__module__.startswith("mshv_async.") for c in spec.cls.__mro__ if c is not object)


def _of_class(cls: type[V6]) -> DriverSpec:
    """Return the spec of a class; with its file's text where the file alone makes it again."""
    if not (isinstance(cls, type) and issubclass(cls, V6)):
        raise DriverError(f"{cls!r} is not a driver; derive a class from V6 or a later one")
    for name, profile in PROFILES.items():
        if cls is profile:
            return resolve_driver(name)
    base = next(name for name, known in reversed(PROFILES.items()) if issubclass(cls, known))
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    source = None
    if file is not None and "." not in cls.__qualname__:
        source = Path(file).read_text(encoding="utf-8")
    name = f"{file or f'{cls.__module__}.py'}:{cls.__name__}"
    return DriverSpec(name, cls, base, source=source)


def _check_arity(spec: DriverSpec) -> None:
    """Refuse methods that cannot be called as the driver's are."""
    base = PROFILES[spec.base]
    for cls in spec.cls.__mro__:
        if cls is base or cls.__module__.startswith("mshv_async."):
            continue
        for name, method in vars(cls).items():
            wanted = getattr(base, name, None)
            if inspect.isfunction(method) and inspect.isfunction(wanted):
                _check_call(spec, method, wanted)


def _check_call(
    spec: DriverSpec, method: Callable[..., object], wanted: Callable[..., object]
) -> None:
    calls = inspect.signature(wanted)
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in calls.parameters.values() if p.kind in plain]
    named = [
        p.name
        for p in calls.parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY and p.default is inspect.Parameter.empty
    ]
    try:
        inspect.signature(method).bind(*names, **dict.fromkeys(named))
    except TypeError:
        file = spec.name.rpartition(":")[0]
        line = method.__code__.co_firstlineno
        takes = ", ".join(list(inspect.signature(method).parameters)[1:])
        raise DriverError(
            f"{file}:{line}: {method.__qualname__} takes ({takes}), but is called with "
            f"({', '.join([*names[1:], *named])})"
        ) from None
