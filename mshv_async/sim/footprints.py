"""Footprint completeness: what a step changed, against what it reported.

After each step every modelled object that the roots reach is compared with what it was before.
A slot that changed although no write to it was reported, and that the step's declared operation
is not about, is state that the search would not see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    The walk begins at the runtime's ``roots()``.
    """

    def __init__(self) -> None:
        self.missing: dict[tuple[str, str], Unreported] = {}
        self.checked_steps = 0
        self._before: dict[int, tuple[Shared, dict[str, Any]]] = {}
        self._reported: set[tuple[int, str]] = set()
        self._op: Op | None = None

    def spawned(self, thread: Thread, by: Thread | None) -> None:
        """Nothing is to be done."""

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Remember the declared operation; what it is about counts as reported."""
        self._op = op
        self._reported = set()
        if not self._before and len(thread.rt.tape) >= thread.rt.strategy.prefix:
            self._before = _snapshot(thread.rt.roots())

    def touched(self, obj: Any, what: str, write: bool, lo: int, hi: int) -> None:
        """Remember a reported write."""
        del lo, hi
        if write:
            self._reported.add((id(obj), what))

    def step_ended(self, thread: Thread) -> None:
        """Compare."""
        if not self._before:
            return
        after = _snapshot(thread.rt.roots())
        op = self._op
        label = op.label if op is not None else "?"
        for key, (obj, fields) in after.items():
            old = self._before.get(key)
            if old is None or old[0] is not obj:
                continue
            for slot, value in fields.items():
                if old[1].get(slot) == value or (key, slot) in self._reported:
                    continue
                if (op is not None and obj is op.obj) or (key, "") in self._reported:
                    continue
                state = f"{name_of(obj)}.{slot}"
                found = Unreported(state, thread.name, label)
                self.missing.setdefault((state, label), found)
        self._before = after
        self.checked_steps += 1


def _snapshot(roots: Iterable[Any]) -> dict[int, tuple[Shared, dict[str, Any]]]:
    found: dict[int, tuple[Shared, dict[str, Any]]] = {}
    stack = list(roots)
    while stack:
        obj = stack.pop()
        if isinstance(obj, list | tuple):
            stack.extend(obj)
        elif isinstance(obj, dict):
            stack.extend(obj.values())
        elif isinstance(obj, Shared) and id(obj) not in found and not is_freed(obj):
            fields: dict[str, Any] = {}
            found[id(obj)] = (obj, fields)
            for slot in slots_of(model_class(obj)):
                value = _raw(obj, slot)
                stack.append(value)
                fields[slot] = _flat(value)
    return found


def _raw(obj: Shared, slot: str) -> Any:
    for base in model_class(obj).__mro__:
        descriptor = base.__dict__.get(slot)
        if descriptor is not None:
            try:
                return descriptor.__get__(obj)
            except AttributeError:
                return None
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
