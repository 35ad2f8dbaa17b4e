"""Guest programs: what a virtual processor executes, as a function of a position.

A program is immutable and its position is one integer that the guest processor keeps, so that
where a guest stands is plain state. ``repeat`` and ``forever`` are counted, not unrolled.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple, Protocol

from mshv_async.hyperv import Access


class GuestAccess(NamedTuple):
    """One access to the guest page ``gfn``. ``tag``: what a write leaves; empty: a fresh tag."""

    access: Access
    gfn: int
    tag: str = ""


class Sleep(NamedTuple):
    """The guest does nothing for virtual nanoseconds."""

    ns: int


class Yield(NamedTuple):
    """The guest lets others run."""

    turns: int = 1


Operation = GuestAccess | Sleep | Yield


def read(gfn: int) -> GuestAccess:
    """Return a read of a guest page."""
    return GuestAccess(Access.READ, gfn)


def write(gfn: int, tag: str = "") -> GuestAccess:
    """Return a write of a tag to a guest page."""
    return GuestAccess(Access.WRITE, gfn, tag)


def execute(gfn: int) -> GuestAccess:
    """Return an instruction fetch from a guest page."""
    return GuestAccess(Access.EXECUTE, gfn)


class OperationSource(Protocol):
    """What a guest executes. Positions begin at 0; ``after`` leads from one to the next."""

    @property
    def forever(self) -> bool:
        """Whether it never ends."""
        ...

    def at(self, position: int) -> Operation | None:
        """Return the operation at a position; None: the program is over."""
        ...

    def after(self, position: int) -> int:
        """Return the position that follows."""
        ...


class Group(NamedTuple):
    """Operations that are executed ``times`` over; None: for ever."""

    operations: tuple[Operation, ...]
    times: int | None = 1


class Program:
    """Groups of operations, one after the other; only the last may go on for ever.

    ``forever``: the last group never ends. Raises ValueError for an empty group, a negative
    count, or a group after one without end.
    """

    __slots__ = ("_ends", "_finite", "forever", "groups")

    def __init__(self, groups: tuple[Group, ...]) -> None:
        for index, group in enumerate(groups):
            if not group.operations or (group.times or 0) < 0:
                raise ValueError(f"group {index} of the program has nothing to execute")
            if group.times is None and index + 1 < len(groups):
                raise ValueError(f"group {index} of the program never ends, but more follows")
        self.groups = groups
        self.forever = bool(groups) and groups[-1].times is None
        self._ends = list(
            accumulate(len(g.operations) * g.times for g in groups if g.times is not None)
        )
        self._finite = self._ends[-1] if self._ends else 0

    @classmethod
    def of(cls, *operations: Operation, times: int | None = 1) -> Program:
        """Return a program of one group."""
        return cls((Group(operations, times),) if operations else ())

    def at(self, position: int) -> Operation | None:
        """Return the operation at a position; None: the program is over."""
        if position >= self._finite:
            if not self.forever:
                return None
            operations = self.groups[-1].operations
            return operations[(position - self._finite) % len(operations)]
        index = bisect_right(self._ends, position)
        operations = self.groups[index].operations
        start = self._ends[index - 1] if index else 0
        return operations[(position - start) % len(operations)]

    def after(self, position: int) -> int:
        """Return the position that follows; an endless group begins again where it began."""
        following = position + 1
        if self.forever and following == self._finite + len(self.groups[-1].operations):
            return self._finite
        return following
