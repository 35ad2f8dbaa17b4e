"""Programs as plain tuples, for tests of positions."""

from __future__ import annotations

from typing import Any, NamedTuple


class ToyLine(NamedTuple):
    operations: tuple[Any, ...]
    times: int | None = 1


class ToyProgram(NamedTuple):
    lines: tuple[ToyLine, ...]

    @property
    def forever(self) -> bool:
        return any(line.times is None for line in self.lines)
