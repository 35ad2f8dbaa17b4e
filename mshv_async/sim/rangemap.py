"""Maps from integers to values, kept as maximal runs: cost follows what differs, not the span."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mshv_async.sim.current import current_or_none, instrumented
from mshv_async.sim.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

V = TypeVar("V")
Run = tuple[int, int, Any]


class RangeMap(Shared, Generic[V]):
    """Half-open runs ``[lo, hi)`` with one value each; neighbours that agree are one run.

    ``linear``: the value counts along with the key (``value.advance(n)`` is the value ``n`` keys
    further on), as page frames along a mapping do. Values are immutable.
    """

    __slots__ = ("_ends", "_starts", "_tracked", "_values", "linear")
    _const = ("_ends", "_starts", "_tracked", "_values", "linear")

    def __init__(self, name: str, *, linear: bool = False) -> None:
        super().__init__(name)
        self.linear = linear
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._values: list[V] = []
        self._tracked = instrumented.get()

    def _touch(self, lo: int, hi: int, write: bool) -> None:
        thread = current_or_none()
        if thread is not None:
            thread.rt.touched(self, "", write, lo, hi)

    def _at(self, index: int, key: int) -> V:
        value = self._values[index]
        if self.linear and key != self._starts[index]:
            return value.advance(key - self._starts[index])  # type: ignore[attr-defined,no-any-return]
        return value

    def get(self, key: int) -> V | None:
        """Return the value at a key, or None."""
        if self._tracked:
            self._touch(key, key + 1, False)
        index = bisect_right(self._starts, key) - 1
        if index < 0 or self._ends[index] <= key:
            return None
        return self._at(index, key)

    def runs(self, lo: int, hi: int) -> list[tuple[int, int, V]]:
        """Return the present runs, clipped to ``[lo, hi)``, in order."""
        if self._tracked:
            self._touch(lo, hi, False)
        if lo >= hi:
            return []
        starts, ends = self._starts, self._ends
        index = max(bisect_right(starts, lo) - 1, 0)
        found = []
        while index < len(starts) and starts[index] < hi:
            if ends[index] > lo:
                a = max(starts[index], lo)
                found.append((a, min(ends[index], hi), self._at(index, a)))
            index += 1
        return found

    def pieces(self, lo: int, hi: int) -> list[tuple[int, int, V | None]]:
        """Return ``[lo, hi)`` as consecutive pieces, holes as None."""
        found: list[tuple[int, int, V | None]] = []
        at = lo
        for a, b, value in self.runs(lo, hi):
            if a > at:
                found.append((at, a, None))
            found.append((a, b, value))
            at = b
        if at < hi:
            found.append((at, hi, None))
        return found

    def total(self, lo: int, hi: int) -> int:
        """Return how many keys of ``[lo, hi)`` are present."""
        return sum(b - a for a, b, _ in self.runs(lo, hi))

    def set(self, lo: int, hi: int, value: V) -> None:
        """Give ``[lo, hi)`` a value; of a linear map, the value that ``lo`` gets."""
        if lo >= hi:
            return
        if self._tracked:
            self._touch(lo, hi, True)
        self._cut(lo, hi)
        starts, ends, values = self._starts, self._ends, self._values
        index = bisect_left(starts, lo)
        if index < len(starts) and starts[index] == hi and self._follows(lo, value, hi, index):
            hi = ends[index]
            del starts[index], ends[index], values[index]
        before = index - 1
        if before >= 0 and ends[before] == lo and self._continues(before, lo, value):
            ends[before] = hi
            return
        starts.insert(index, lo)
        ends.insert(index, hi)
        values.insert(index, value)

    def _follows(self, lo: int, value: V, at: int, index: int) -> bool:
        expected = value.advance(at - lo) if self.linear else value  # type: ignore[attr-defined]
        return bool(expected == self._values[index])

    def _continues(self, before: int, at: int, value: V) -> bool:
        last = self._values[before]
        if self.linear:
            last = last.advance(at - self._starts[before])  # type: ignore[attr-defined]
        return bool(last == value)

    def clear(self, lo: int, hi: int) -> None:
        """Remove the keys of ``[lo, hi)``."""
        if lo >= hi:
            return
        if self._tracked:
            self._touch(lo, hi, True)
        self._cut(lo, hi)

    def _cut(self, lo: int, hi: int) -> None:
        starts, ends, values = self._starts, self._ends, self._values
        first = max(bisect_right(starts, lo) - 1, 0)
        if first < len(starts) and ends[first] <= lo:
            first += 1
        last = bisect_left(starts, hi, first)
        if first >= last:
            return
        keep: list[tuple[int, int, V]] = []
        if starts[first] < lo:
            keep.append((starts[first], lo, values[first]))
        if ends[last - 1] > hi:
            keep.append((hi, ends[last - 1], self._at(last - 1, hi)))
        starts[first:last] = [k[0] for k in keep]
        ends[first:last] = [k[1] for k in keep]
        values[first:last] = [k[2] for k in keep]

    def __len__(self) -> int:
        if self._tracked:
            self._touch(0, 1 << 64, False)
        return len(self._starts)

    def __bool__(self) -> bool:
        if self._tracked:
            self._touch(0, 1 << 64, False)
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, V]]:
        """Iterate over a copy of the runs."""
        if self._tracked:
            self._touch(0, 1 << 64, False)
        return iter(list(zip(self._starts, self._ends, self._values, strict=True)))


class Grain:
    """Cuts ranges into the pieces that are one step each.

    Keys that somebody names are a piece of their own; the gaps between them, which no one else
    looks at singly, are grouped. ``exact``: every key is its own piece.
    """

    __slots__ = ("exact", "named")

    def __init__(self, named: Iterable[int] = (), *, exact: bool = False) -> None:
        self.named = tuple(sorted(set(named)))
        self.exact = exact

    def pieces(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """Return ``[lo, hi)`` as consecutive pieces."""
        if self.exact:
            return [(k, k + 1) for k in range(lo, hi)]
        named = self.named
        index = bisect_left(named, lo)
        found = []
        while index < len(named) and named[index] < hi:
            key = named[index]
            if key > lo:
                found.append((lo, key))
            found.append((key, key + 1))
            lo = key + 1
            index += 1
        if lo < hi:
            found.append((lo, hi))
        return found
