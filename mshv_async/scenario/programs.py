"""Program lines: operations in groups, repeated or for ever.

A line is ``OP``, ``OP; OP``, ``repeat K OP…`` or ``forever OP…``; the operations themselves are
in ``operations.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mshv_async.scenario.errors import Misfit, ScenarioError, quoted
from mshv_async.scenario.operations import Operation, parse_operation
from mshv_async.scenario.quantities import parse_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPEAT_MAX: Final = 1 << 31


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A group of operations, run ``times`` times in order; None: for ever."""

    operations: tuple[Operation, ...]
    times: int | None = 1

    def __str__(self) -> str:
        """Return the line as it would stand in a scenario file."""
        group = "; ".join(str(op) for op in self.operations)
        match self.times:
            case None:
                return f"forever {group}"
            case 1:
                return group
        return f"repeat {self.times} {group}"


class Program(msgspec.Struct, frozen=True):
    """What a thread does, line by line."""

    lines: tuple[Line, ...] = ()

    @property
    def forever(self) -> bool:
        """Whether the thread never ends by itself; such a thread owes no progress."""
        return any(line.times is None for line in self.lines)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Each operation as written, without repetitions."""
        return tuple(op for line in self.lines for op in line.operations)

    def __iter__(self) -> Iterator[Operation]:
        """Yield the operations in the order in which they run; endless if ``forever``."""
        for line in self.lines:
            done = 0
            while line.times is None or done < line.times:
                yield from line.operations
                done += 1


def parse_line(text: str, thread_kind: str) -> Line:
    """Return one program line for a thread of that kind; ``Misfit`` says what is wrong."""
    times, group = _prefix(text)
    parts = group.split(";")
    return Line(operations=tuple(parse_operation(p, thread_kind) for p in parts), times=times)


def _prefix(text: str) -> tuple[int | None, str]:
    first, _, rest = text.strip().partition(" ")
    if first == "forever":
        return None, _no_prefix(rest)
    if first != "repeat":
        return 1, text
    count, _, group = rest.strip().partition(" ")
    allowed = f"repeat K OPERATION, K from 1 to {REPEAT_MAX}"
    times = parse_number(count, allowed)
    if not 1 <= times <= REPEAT_MAX:
        raise Misfit(quoted(count), allowed)
    return times, _no_prefix(group)


def _no_prefix(group: str) -> str:
    word = group.split(maxsplit=1)[:1]
    if word in (["forever"], ["repeat"]):
        raise Misfit(f"{quoted(word[0])} after another prefix", "one prefix a line")
    return group


def parse_program(file: str, key: str, texts: Sequence[str], thread_kind: str) -> Program:
    """Return a program; ``ScenarioError`` names the line by ``key`` and index."""
    lines: list[Line] = []
    for index, text in enumerate(texts):
        where = f"{key}[{index}]"
        if lines and lines[-1].times is None:
            raise ScenarioError(file, where, quoted(text), "nothing after a `forever` line")
        try:
            lines.append(parse_line(text, thread_kind))
        except Misfit as misfit:
            raise misfit.at(file, where) from None
    if not lines:
        raise ScenarioError(file, key, "an empty program", "at least one operation")
    return Program(tuple(lines))
