"""What threads of a scenario do, as this room needs to see it.

The types are structural: whatever has these fields can be run. A program's position is kept in
:class:`Position`, three counters, so that where a thread stands is plain state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Operation(Protocol):
    """One operation; ``kind`` says which, the other fields are its arguments.

    The place is a ``gfn``, standing for the address that the scenario gives it, or a raw
    ``address`` (bytes); neither leaves the choice to the reclaimer. ``pages``: 4 KiB pages;
    ``ns``: virtual nanoseconds; ``tag``: what is stored (None: thread name and a counter).
    ``file``: whose descriptor, ``vp`` (index ``vp``) or ``partition``; ``process``: by name.
    """

    @property
    def kind(self) -> str: ...
    @property
    def gfn(self) -> int | None: ...
    @property
    def address(self) -> int | None: ...
    @property
    def pages(self) -> int: ...
    @property
    def tag(self) -> str | None: ...
    @property
    def advice(self) -> str | None: ...
    @property
    def prot(self) -> str | None: ...
    @property
    def flags(self) -> tuple[str, ...]: ...
    @property
    def backing(self) -> str: ...
    @property
    def uaddr(self) -> int | None: ...
    @property
    def ns(self) -> int: ...
    @property
    def file(self) -> str | None: ...
    @property
    def vp(self) -> int | None: ...
    @property
    def process(self) -> str | None: ...


class Line(Protocol):
    """A group of operations, run ``times`` times in order; None: for ever."""

    @property
    def operations(self) -> Sequence[Operation]: ...
    @property
    def times(self) -> int | None: ...


class Program(Protocol):
    """What a thread does, line by line; ``forever``: it never ends by itself."""

    @property
    def lines(self) -> Sequence[Line]: ...
    @property
    def forever(self) -> bool: ...


class AddressTable(Protocol):
    """Which address stands behind guest pages."""

    def address(self, gfn: int, pages: int = 1) -> int:
        """Return the address (bytes) of ``pages`` guest pages from ``gfn`` on."""
        ...


class Position(NamedTuple):
    """Where a thread stands: line, how often that line was done, operation within it."""

    line: int = 0
    done: int = 0
    nth: int = 0


def operation_at(program: Program, position: Position) -> Operation | None:
    """Return the operation at a position; None: the program is over."""
    if position.line >= len(program.lines):
        return None
    return program.lines[position.line].operations[position.nth]


def following(program: Program, position: Position) -> Position:
    """Return the next position; an endless line begins again without counting."""
    line = program.lines[position.line]
    if position.nth + 1 < len(line.operations):
        return position._replace(nth=position.nth + 1)
    if line.times is None:
        return position._replace(nth=0)
    if position.done + 1 < line.times:
        return Position(position.line, position.done + 1)
    return Position(position.line + 1)
