"""Footprint completeness: what a step changed, against what it reported.

After each step every modelled object that the roots reach, and what the oracle keeps, is compared
with what it was before. A slot, key or range that changed although no write to it was reported is
state that the search would not see. The declared operation excuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from mshv_async.sim.checkers import NullChecker
from mshv_async.sim.containers import SharedDict, SharedList
from mshv_async.sim.faults import UNINIT
from mshv_async.sim.rangemap import RangeMap
from mshv_async.sim.shared import Shared, is_freed, model_class, name_of, slots_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mshv_async.sim.op import Op
    from mshv_async.sim.thread import Thread


@dataclass(frozen=True, slots=True)
class Unreported:
    """A slot that a step changed without a word."""

    state: str
    thread: str
    label: str

    def __str__(self) -> str:
        return f"{self.state} changed unreported by {self.thread} in the step of {self.label}"


class FootprintChecker(NullChecker):
    """Watches one execution; ``missing`` holds each silent change once.

    The walk begins at the runtime's ``roots()``. ``worth`` says which steps are worth a look;
    without it, all are that no earlier execution has taken.
    """

    def __init__(self, worth: Callable[[Thread], bool] | None = None) -> None:
        self.missing: dict[tuple[str, str], Unreported] = {}
        self.checked_steps = 0
        self._worth = worth
        self._before: Snapshot | None = None
        self._current = False  # whether ``_before`` is the state that the step begins in
        self._reported: dict[tuple[int, str], list[tuple[int, int]]] = {}  # ranges, for maps
        self._op: Op | None = None

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Remember what the step is, for those who read of it."""
        rt = thread.rt
        self._op = op
        self._reported = {}
        if len(rt.tape) < rt.strategy.prefix or (self._worth and not self._worth(thread)):
            self._before = None
        elif self._before is None or not self._current:
            self._before = _snapshot(rt.roots())
        self._current = False

    def touched(self, obj: Any, what: str, write: bool, lo: int, hi: int) -> None:
        """Remember a reported write."""
        if write:
            self._reported.setdefault((id(obj), what), []).append((lo, hi))

    observed = touched

    def step_ended(self, thread: Thread) -> None:
        """Compare."""
        if self._before is None:
            return
        after = _snapshot(thread.rt.roots())
        for key, (obj, fields) in after.items():
            old = self._before.get(key)
            if old is not None and old[0] is obj:
                for slot in self._silent(obj, old[1], fields):
                    self._miss(thread, f"{name_of(obj)}.{slot}")
        self._before, self._current = after, True
        self.checked_steps += 1

    def _silent(self, obj: Shared, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
        """Return what of an object changed without a report."""
        slots = new if old.keys() == new.keys() else {**old, **new}
        changed = [slot for slot in slots if not same(old.get(slot), new.get(slot))]
        if not changed:
            return []
        whole = self._reported.get((id(obj), ""), [])
        if isinstance(obj, RangeMap) and _covered(old, new, whole):
            changed = [slot for slot in changed if slot not in _MAP_SLOTS]
        elif isinstance(obj, SharedList) and whole:
            return []
        return [slot for slot in changed if (id(obj), slot) not in self._reported]

    def _miss(self, thread: Thread, state: str) -> None:
        label = self._op.label if self._op is not None else "?"
        self.missing.setdefault((state, label), Unreported(state, thread.name, label))


Snapshot = dict[int, tuple[Shared, dict[str, Any]]]


def _snapshot(roots: Iterable[Any]) -> Snapshot:
    found: Snapshot = {}
    stack = list(roots)
    while stack:
        obj = stack.pop()
        if isinstance(obj, list | tuple):
            stack.extend(obj)
        elif isinstance(obj, dict):
            stack.extend(obj.values())
        elif isinstance(obj, Shared) and id(obj) not in found and not is_freed(obj):
            values = {slot: _raw(obj, read) for slot, read in _readers(model_class(obj))}
            stack.extend(values.values())
            if isinstance(obj, SharedDict):
                values = {repr(key): value for key, value in values["_items"].items()}
            found[id(obj)] = (obj, {slot: _flat(value) for slot, value in values.items()})
    return found


@cache
def _readers(cls: type) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """Return what reads each slot without reporting it, of a class as its author wrote it."""
    found = []
    for slot in slots_of(cls):
        if slot not in cls._not_state:  # type: ignore[attr-defined]
            descriptor = next(b.__dict__[slot] for b in cls.__mro__ if slot in b.__dict__)
            found.append((slot, descriptor.__get__))
    return tuple(found)


def _raw(obj: Shared, read: Callable[[Any], Any]) -> Any:
    try:
        return read(obj)
    except AttributeError:  # never set
        return None


def _flat(value: Any) -> Any:
    """Return something that compares like the value now, whatever happens to it later."""
    if isinstance(value, list):
        return tuple(_flat(v) for v in value)
    if isinstance(value, dict):
        return tuple((_flat(k), _flat(v)) for k, v in value.items())
    if isinstance(value, Shared):
        return ("object", id(value))
    return value


def same(one: Any, other: Any) -> bool:
    """Compare two values; that of nothing assigned is like itself only."""
    return one is other or (one is not UNINIT and other is not UNINIT and bool(one == other))


Runs = list[tuple[int, int, Any]]

_MAP_SLOTS = ("_starts", "_ends", "_values")


def _covered(old: dict[str, Any], new: dict[str, Any], told: list[tuple[int, int]]) -> bool:
    """Say whether two states of a map differ only in the ranges that were told."""
    if not told:
        return False
    before, after = _runs(old), _runs(new)
    edges = {edge for lo, hi, _ in (*before, *after) for edge in (lo, hi)}
    edges |= {hi for _, hi in told}
    linear = bool(new["linear"])
    return all(
        any(lo <= edge < hi for lo, hi in told)
        or same(_at(before, edge, linear), _at(after, edge, linear))
        for edge in edges
    )


def _runs(fields: dict[str, Any]) -> Runs:
    return list(zip(*(fields[slot] for slot in _MAP_SLOTS), strict=True))


def _at(runs: Runs, key: int, linear: bool) -> Any:
    for lo, hi, value in runs:
        if lo <= key < hi:
            return value.advance(key - lo) if linear and key > lo else value
    return None
