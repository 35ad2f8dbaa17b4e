"""Workloads: long access sequences computed from a seed and a position.

Nothing is drawn from a generator with hidden state: the access at a position follows from the
seed and the position alone (the output function of SplitMix64: Steele, Lea and Flood, OOPSLA
2014). Only integers are computed with, so every machine gets the same sequence.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from mshv_async.guest.program import GuestAccess
from mshv_async.hyperv import Access

if TYPE_CHECKING:
    from mshv_async.guest.tracefile import Trace

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15

EXACT_RANKS: Final = 512
"""Ranks of a zipf workload with a weight of their own; the rest share one per octave."""


def mix64(seed: int, index: int) -> int:
    """Return 64 pseudo-random bits for an index."""
    z = (seed * 0xD1342543DE82EF95 + (index + 1) * _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


@dataclass(frozen=True)
class Counted:
    """What all workloads have in common: ``pages`` guest pages from ``base``, a length, a mix.

    ``accesses``: how many. ``writes_percent``: share of writes, the others read. ``forever``:
    begin again at the end. Raises ValueError when there is nothing to access.
    """

    base: int
    pages: int
    accesses: int
    writes_percent: int = 50
    forever: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        if self.pages < 1 or self.accesses < 1:
            raise ValueError("a workload needs at least one page and one access")
        if not 0 <= self.writes_percent <= 100:
            raise ValueError(f"a share of {self.writes_percent} percent is not within 0 … 100")

    def page(self, position: int) -> int:
        """Return the page, from 0, that is accessed at a position."""
        raise NotImplementedError

    def at(self, position: int) -> GuestAccess | None:
        """Return the access at a position; None after the last."""
        if position >= self.accesses:
            return None
        dice = mix64(~self.seed & _MASK, position) % 100
        access = Access.WRITE if dice < self.writes_percent else Access.READ
        return GuestAccess(access, self.base + self.page(position))

    def after(self, position: int) -> int:
        """Return the position that follows."""
        following = position + 1
        return 0 if self.forever and following == self.accesses else following


@dataclass(frozen=True)
class Sequential(Counted):
    """Page after page, again from the first after the last."""

    def page(self, position: int) -> int:
        """Return the page, from 0, that is accessed at a position."""
        return position % self.pages


@dataclass(frozen=True)
class Uniform(Counted):
    """Every page equally likely."""

    def page(self, position: int) -> int:
        """Return the page, from 0, that is accessed at a position."""
        return (mix64(self.seed, position) * self.pages) >> 64


@dataclass(frozen=True)
class Zipf(Counted):
    """Page of rank r (the first is rank 1) with a likelihood of r to the power of ``-skew``.

    The first 512 ranks are exact; beyond them the ranks of an octave share their mean weight, so
    that a table for terabytes stays small.
    """

    skew: float = 1.0
    _firsts: tuple[int, ...] = field(init=False, repr=False, compare=False, default=())
    _sums: tuple[int, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.skew <= 4:
            raise ValueError(f"a skew of {self.skew} is not within 0 … 4")
        firsts = list(range(min(self.pages, EXACT_RANKS)))
        at = EXACT_RANKS
        while at < self.pages:
            firsts.append(at)
            at *= 2
        ends = [*firsts[1:], self.pages]
        exponent = -Decimal(str(self.skew))
        weights = [
            int((Decimal(lo + hi + 1) / 2) ** exponent * (1 << 40)) * (hi - lo)
            for lo, hi in zip(firsts, ends, strict=True)
        ]
        object.__setattr__(self, "_firsts", (*firsts, self.pages))
        object.__setattr__(self, "_sums", (0, *accumulate(max(w, 1) for w in weights)))

    def page(self, position: int) -> int:
        """Return the page, from 0, that is accessed at a position."""
        draw = (mix64(self.seed, position) * self._sums[-1]) >> 64
        index = bisect_right(self._sums, draw) - 1
        lo, hi = self._firsts[index], self._firsts[index + 1]
        return lo + (draw - self._sums[index]) * (hi - lo) // (
            self._sums[index + 1] - self._sums[index]
        )


class Replay:
    """A recorded trace, its page 0 at guest page ``base``; ``forever``: again from the start."""

    __slots__ = ("base", "forever", "trace")

    def __init__(self, trace: Trace, base: int, *, forever: bool = False) -> None:
        self.trace = trace
        self.base = base
        self.forever = forever

    def at(self, position: int) -> GuestAccess | None:
        """Return the access at a position; None after the last."""
        touches = self.trace.touches
        if position >= len(touches):
            return None
        access, page = touches[position]
        return GuestAccess(access, self.base + page)

    def after(self, position: int) -> int:
        """Return the position that follows."""
        following = position + 1
        return 0 if self.forever and following == len(self.trace.touches) else following
