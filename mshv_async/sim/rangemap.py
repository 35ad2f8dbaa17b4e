"""Maps from integers to values, kept as maximal runs: cost follows what differs, not the span."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mshv_async.sim.current import (
    instrumented,
    report_access,
    report_change,
    report_count,
)
from mshv_async.sim.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mshv_async.sim.accesses import Change

V = TypeVar("V")


_NOTHING: Any = ()


def _kind(value: Any) -> str:
    """Return the kind of a value: what it says in ``kind_of_value``, or that it is there.

    Any partition of the values will do; a finer one makes fewer steps conflict.
    """
    return "absent" if value is None else str(getattr(value, "kind_of_value", "present"))


class RangeMap(Shared, Generic[V]):
    """Half-open runs ``[lo, hi)`` with one value each; neighbours that agree are one run.

    ``linear``: the value counts along with the key (``value.advance(n)`` is the value ``n`` keys
    further on), as page frames along a mapping do. Values are immutable.
    """

    __slots__ = ("_ends", "_starts", "_tracked", "_values", "linear")
    _const = ("_ends", "_starts", "_tracked", "_values", "linear")
    _parts = True

    def __init__(self, name: str, *, linear: bool = False) -> None:
        self._tracked = False  # before the base, which may set it
        if instrumented.get():
            super().__init__(name)
        else:  # the same without the call: a world has dozens of maps
            self.name = name
            self._grave = None
        self.linear = linear
        # Most maps of a world stay empty: they share what they hold until something comes in.
        self._starts: list[int] = _NOTHING
        self._ends: list[int] = _NOTHING
        self._values: list[V] = _NOTHING

    def _touch(self, lo: int, hi: int, write: bool) -> None:
        report_access(self, "", write, lo, hi)

    @property
    def worth_asking(self) -> bool:
        """Whether anything may be found. That is no look at any key: use it to save time only."""
        return self._tracked or bool(self._starts)

    def look(self, lo: int, hi: int) -> None:
        """Report that ``[lo, hi)`` was looked at: for what was known without."""
        if self._tracked:
            self._touch(lo, hi, False)

    def spans(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """Return what is present, without a report: :meth:`look` makes a better one."""
        tracked, self._tracked = self._tracked, False
        found = [(a, b) for a, b, _ in self.runs(lo, hi)]
        self._tracked = tracked
        return found

    def get(self, key: int) -> V | None:
        """Return the value at a key, or None."""
        if self._tracked:
            self._touch(key, key + 1, False)
        index = bisect_right(self._starts, key) - 1
        if index < 0 or self._ends[index] <= key:
            return None
        value = self._values[index]
        return self._along(value, key - self._starts[index]) if self.linear else value

    def _along(self, value: V, n: int) -> V:
        """Return the value ``n`` keys further in a run that begins with ``value``."""
        return value.advance(n) if n and self.linear else value  # type: ignore[attr-defined]

    def runs(self, lo: int, hi: int) -> list[tuple[int, int, V]]:
        """Return the present runs, clipped to ``[lo, hi)``, in order."""
        if self._tracked:
            self._touch(lo, hi, False)
        starts, ends = self._starts, self._ends
        first = bisect_right(ends, lo)
        last = bisect_left(starts, hi, first)
        if first == last or lo >= hi:
            return []
        values = self._values
        if last - first == 1:  # the common case
            a, b, value = starts[first], ends[first], values[first]
            if a < lo:
                a, value = lo, self._along(value, lo - a)
            return [(a, min(b, hi), value)]
        found = list(zip(starts[first:last], ends[first:last], values[first:last], strict=True))
        a, b, value = found[0]
        if a < lo:
            found[0] = (lo, b, self._along(value, lo - a))
        a, b, value = found[-1]
        if b > hi:
            found[-1] = (a, hi, value)
        return found

    def pieces(self, lo: int, hi: int) -> list[tuple[int, int, V | None]]:
        """Return ``[lo, hi)`` as consecutive pieces, holes as None."""
        found: list[tuple[int, int, V | None]] = []
        at = lo
        for run in self.runs(lo, hi):
            if run[0] > at:
                found.append((at, run[0], None))
            found.append(run)
            at = run[1]
        if at < hi:
            found.append((at, hi, None))
        return found

    def lowest(self, lo: int, hi: int, n: int) -> list[tuple[int, int]]:
        """Return the lowest ``n`` keys of ``[lo, hi)`` that are present, as runs, or all there are.

        It looks no further than it has to.
        """
        found: list[tuple[int, int]] = []
        starts, ends = self._starts, self._ends
        index, seen = bisect_right(ends, lo), hi
        while n and index < len(starts) and starts[index] < hi:
            a = max(lo, starts[index])
            b = min(hi, ends[index], a + n)
            found.append((a, b))
            n -= b - a
            index += 1
            seen = hi if n else b
        if self._tracked:
            self._touch(lo, seen, False)
        return found

    def add(self, lo: int, hi: int, n: int) -> None:
        """Add ``n`` to the value of each key of ``[lo, hi)``; absent ones hold 0, and 0 is absent.

        For maps of integers. The order of two countings does not matter.
        """
        if self._tracked:
            report_count(self, lo, hi)
        tracked, self._tracked = self._tracked, False
        for a, b, value in self.pieces(lo, hi):
            now = (value or 0) + n  # type: ignore[operator]
            if now:
                self.set(a, b, now)  # type: ignore[arg-type]
            else:
                self.clear(a, b)
        self._tracked = tracked

    def total(self, lo: int, hi: int) -> int:
        """Return how many keys of ``[lo, hi)`` are present."""
        found = 0
        for a, b, _ in self.runs(lo, hi):
            found += b - a
        return found

    def set(self, lo: int, hi: int, value: V) -> None:
        """Give ``[lo, hi)`` a value; of a linear map, the value that ``lo`` gets."""
        if lo >= hi:
            return
        if self._tracked:
            report_change(self, lo, hi, self._changes(lo, hi, value))
        starts, ends, values = self._starts, self._ends, self._values
        # Runs that overlap or touch: what sticks out on either side stays, or joins the new run.
        first = bisect_left(ends, lo)
        last = bisect_right(starts, hi, first)
        runs = [(lo, hi, value)]
        if first < last:
            a, b = starts[first], ends[last - 1]
            if b > hi:
                held = self._along(values[last - 1], hi - starts[last - 1])
                if held == self._along(value, hi - lo):
                    runs = [(lo, b, value)]
                elif starts[last - 1] == hi:
                    last -= 1
                else:
                    runs.append((hi, b, held))
            if a < lo:
                held = values[first]
                if self._along(held, lo - a) == value:
                    runs[0] = (a, runs[0][1], held)
                elif ends[first] == lo:
                    first += 1
                else:
                    runs.insert(0, (a, lo, held))
        self._splice(first, last, runs)

    def clear(self, lo: int, hi: int) -> None:
        """Remove the keys of ``[lo, hi)``."""
        if lo >= hi:
            return
        if self._tracked:
            report_change(self, lo, hi, self._changes(lo, hi, None))
        starts, ends, values = self._starts, self._ends, self._values
        first = bisect_right(ends, lo)
        last = bisect_left(starts, hi, first)
        if first == last:
            return
        keep: list[tuple[int, int, V]] = []
        if starts[first] < lo:
            keep.append((starts[first], lo, values[first]))
        if ends[last - 1] > hi:
            held = self._along(values[last - 1], hi - starts[last - 1])
            keep.append((hi, ends[last - 1], held))
        self._splice(first, last, keep)

    def kinds(self, lo: int, hi: int) -> list[tuple[int, int, str]]:
        """Return of what kind the values of ``[lo, hi)`` are, in pieces, without a report."""
        return [(a, b, _kind(value)) for a, b, value in self._unseen(lo, hi)]

    def _changes(self, lo: int, hi: int, value: V | None) -> list[Change]:
        """Return what it changes to give ``[lo, hi)`` a value, or None."""
        found: list[Change] = []
        for a, b, held in self._unseen(lo, hi):
            new = value if value is None else self._along(value, a - lo)
            same = type(held) is type(new) and held == new  # 1 equals True, and is not the same
            found.append((a, b, None if same else _kind(held)))
        return found

    def _unseen(self, lo: int, hi: int) -> list[tuple[int, int, V | None]]:
        """Return the pieces of ``[lo, hi)`` without a report."""
        tracked, self._tracked = self._tracked, False
        found = self.pieces(lo, hi)
        self._tracked = tracked
        return found

    def _splice(self, first: int, last: int, runs: list[tuple[int, int, V]]) -> None:
        """Put runs in the place of those from ``first`` to before ``last``."""
        if len(runs) == 1 and last - first < 2:
            lo, hi, value = runs[0]
            if not self._starts:
                self._starts, self._ends, self._values = [lo], [hi], [value]
            elif last == first:
                self._starts.insert(first, lo)
                self._ends.insert(first, hi)
                self._values.insert(first, value)
            else:
                self._starts[first], self._ends[first], self._values[first] = lo, hi, value
            return
        self._starts[first:last] = [run[0] for run in runs]
        self._ends[first:last] = [run[1] for run in runs]
        self._values[first:last] = [run[2] for run in runs]

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
