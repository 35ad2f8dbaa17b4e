"""Footprint completeness: what a step changed, against what it reported.

After each step every modelled object that the roots reach is compared with what it was before.
A slot that changed although no write to it was reported, and that the step's declared operation
is not about, is state that the search would not see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from mshv_async.sim.containers import SharedDict
from mshv_async.sim.faults import UNINIT
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


class FootprintChecker:
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
        self._reported: set[tuple[int, str]] = set()
        self._op: Op | None = None

    def spawned(self, thread: Thread, by: Thread | None) -> None:
        """Nothing is to be done."""

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Remember the declared operation; what it is about counts as reported."""
        rt = thread.rt
        self._op = op
        self._reported = set()
        if len(rt.tape) < rt.strategy.prefix or (self._worth and not self._worth(thread)):
            self._before = None
        elif self._before is None or not self._current:
            self._before = _snapshot(rt.roots())
        self._current = False

    def touched(self, obj: Any, what: str, write: bool, lo: int, hi: int) -> None:
        """Remember a reported write."""
        del lo, hi
        if write:
            self._reported.add((id(obj), what))

    def step_ended(self, thread: Thread) -> None:
        """Compare."""
        if self._before is None:
            return
        after = _snapshot(thread.rt.roots())
        for key, (obj, fields) in after.items():
            old = self._before.get(key)
            if old is not None and old[0] is obj and not self._is_reported(obj, ""):
                self._compare(thread, obj, old[1], fields)
        self._before, self._current = after, True
        self.checked_steps += 1

    def _is_reported(self, obj: Shared, slot: str) -> bool:
        if isinstance(obj, SharedDict) and not slot:
            return False  # it reports each key
        op = self._op
        return (op is not None and obj is op.obj and op.write) or (id(obj), slot) in self._reported

    def _compare(
        self, thread: Thread, obj: Shared, old: dict[str, Any], new: dict[str, Any]
    ) -> None:
        slots = new if old.keys() == new.keys() else {**old, **new}
        for slot in slots:
            if same(old.get(slot), new.get(slot)) or self._is_reported(obj, slot):
                continue
            state = f"{name_of(obj)}.{slot}"
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
