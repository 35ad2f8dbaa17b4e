"""Which facts the methods of a watcher are called for; worked out once for its class.

A world has dozens of such methods, and an execution tells few of their facts: so nothing is
subscribed one by one when a world is set up.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mshv_async.sim.facts import Subscription

M = TypeVar("M", bound="Callable[..., None]")


def watches(*facts: str, late: bool = False) -> Callable[[M], M]:
    """Mark a method: it is called when a model tells one of these facts.

    ``late``: only once its invariant has something to watch.
    """

    def mark(method: M) -> M:
        method._watched = facts, late  # type: ignore[attr-defined]
        return method

    return mark


@cache
def watched(cls: type, *, late: bool) -> tuple[tuple[str, str], ...]:
    """Return pairs of a fact and the name of a method, in the order of definition."""
    marks: dict[str, tuple[tuple[str, ...], bool]] = {}
    for base in reversed(cls.__mro__):
        for name, method in base.__dict__.items():
            if hasattr(method, "_watched"):
                marks[name] = method._watched
    return tuple((f, name) for name, (facts, when) in marks.items() if when is late for f in facts)


@cache
def subscriptions(
    watchers: tuple[type, ...], beginning: tuple[bool, ...]
) -> Mapping[str, tuple[Subscription, ...]]:
    """Return for each fact the places of watchers and their functions, in this order.

    ``beginning``: which of them watch from the start what they else watch late.
    """
    found: dict[str, tuple[Subscription, ...]] = {}
    for place, (cls, early) in enumerate(zip(watchers, beginning, strict=True)):
        pairs = watched(cls, late=False) + (watched(cls, late=True) if early else ())
        for fact, name in pairs:
            found[fact] = (*found.get(fact, ()), (place, getattr(cls, name)))
    return found
