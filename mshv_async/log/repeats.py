"""Folding what goes round and round: the same block of rows again and again.

A livelock is thousands of steps of a loop. A reader needs one turn of it and the count.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Row = TypeVar("Row")

# A turn of a retry loop is some tens of steps, times the threads that take part.
PERIOD_MAX = 200
# Two equal blocks in a row are no loop yet.
TURNS_MIN = 3
ROWS_SAVED_MIN = 4


def fold_repeats(
    rows: Sequence[Row], *, key: Callable[[Row], Hashable], fold: Callable[[int, int], Row]
) -> list[Row]:
    """Return `rows` with each block that repeats shown once, followed by `fold(period, times)`.

    Rows are equal where their `key` is; `times` counts the turns left out.
    """
    numbers: dict[Hashable, int] = {}
    keys = [numbers.setdefault(key(row), len(numbers)) for row in rows]
    result: list[Row] = []
    at = 0
    while at < len(rows):
        period, turns = _longest_loop(keys, at)
        if turns >= TURNS_MIN and period * (turns - 1) >= ROWS_SAVED_MIN:
            result.extend(rows[at : at + period])
            result.append(fold(period, turns - 1))
            at += period * turns
        else:
            result.append(rows[at])
            at += 1
    return result


def _longest_loop(keys: Sequence[int], at: int) -> tuple[int, int]:
    """Return (period, turns) of the loop that begins at `at` and covers most; turns 1: none."""
    best = (1, 1)
    for period in range(1, min(PERIOD_MAX, (len(keys) - at) // TURNS_MIN) + 1):
        end = at
        while end + period < len(keys) and keys[end] == keys[end + period]:
            end += 1
        turns = (end - at) // period + 1
        # A multiple of the true period covers no more: the first that covers most is the loop.
        if turns >= TURNS_MIN and period * turns > best[0] * best[1] + best[0]:
            best = (period, turns)
    return best
