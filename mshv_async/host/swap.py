"""The swap device: slots of one page each, found lowest first."""

from __future__ import annotations

from typing import TypeVar

from mshv_async.sim import RangeMap, Shared, Tag

V = TypeVar("V")


class LockedMap(RangeMap[V]):
    """A map that a spinlock of its own guards, inside one step: accesses to it never race."""

    __slots__ = ()
    _sync = True


class SwapArea(Shared):
    """Slots and what is written in them. There is no swap cache: a slot has one user."""

    __slots__ = ("contents", "free", "nr_free", "slots")
    _embedded = ("contents", "free")
    _const = ("slots", *_embedded)
    _sync = True

    def __init__(self, name: str, slots: int) -> None:
        super().__init__(name)
        self.slots = slots
        self.nr_free = slots
        self.free: LockedMap[bool] = LockedMap(f"{name}.free")
        self.contents: LockedMap[Tag] = LockedMap(f"{name}.contents")
        if slots:
            self.free.set(0, slots, True)

    def alloc(self, n: int) -> list[tuple[int, int]] | None:
        """Take ``n`` slots; None if there are not so many."""
        if n > self.nr_free:
            return None
        taken: list[tuple[int, int]] = []
        for lo, hi, _ in self.free.runs(0, self.slots):
            stop = min(hi, lo + n)
            self.free.clear(lo, stop)
            taken.append((lo, stop))
            n -= stop - lo
            self.nr_free -= stop - lo
            if not n:
                break
        return taken

    def release(self, lo: int, hi: int) -> None:
        """Give slots back; what is written in them is lost."""
        self.contents.clear(lo, hi)
        self.free.set(lo, hi, True)
        self.nr_free += hi - lo
