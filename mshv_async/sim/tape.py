"""The tape: every resolved choice of an execution, in order.

Generation, replay, shrinking and enumeration all work on it. A decision is (label, value, bound):
which choice it was, what was taken, and out of how many.
"""

from __future__ import annotations

from typing import NamedTuple

THREAD = "thread"


class Decision(NamedTuple):
    """One resolved choice: ``0 <= value < bound``; label ``thread`` for who runs next."""

    label: str
    value: int
    bound: int


Tape = list[tuple[str, int, int]]
"""Decisions as plain tuples: one is appended at every contended step."""
