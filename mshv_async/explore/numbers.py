"""Which execution numbers a campaign plays, and on which machine.

An execution is its number (and the seed): so any part of them may be played anywhere, in any
order, and the parts add up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mshv_async.explore.results import CampaignError

BLOCK = 100
"""Executions in a row that belong to one shard."""


class ShardError(CampaignError):
    """A share that means nothing, or shares that do not go together. One line."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``part`` of ``parts``, from 1: each ``parts``-th block of execution numbers."""

    part: int = 1
    parts: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``K/N``. Raises ShardError."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ShardError(f"--shard: found {text!r}; allowed: K/N with K from 1 to N")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.part}/{self.parts}"

    def following(self, number: int) -> int:
        """Return the first number of this part that is not below ``number``."""
        block = number // BLOCK
        ahead = (self.part - 1 - block) % self.parts
        return number if not ahead else (block + ahead) * BLOCK

    def end_of_block(self, number: int) -> int:
        """Return the first number after ``number``, which is of this part, that need not be."""
        return (1 << 62) if self.parts == 1 else (number // BLOCK + 1) * BLOCK


WHOLE = Shard()


class Numbers:
    """Hands out the numbers of one shard from ``first`` on, below ``stop``, in order."""

    def __init__(self, first: int, stop: int, shard: Shard) -> None:
        self._at = shard.following(first)
        self._stop = stop
        self._shard = shard

    def left(self) -> int:
        """Return about how many are left."""
        return max(0, self._stop - self._at) // self._shard.parts

    def take(self, most: int) -> tuple[int, int] | None:
        """Return the next range, of at most so many; None: all are handed out."""
        if self._at >= self._stop:
            return None
        first = self._at
        after = min(first + most, self._stop, self._shard.end_of_block(first))
        self._at = self._shard.following(after)
        return first, after
