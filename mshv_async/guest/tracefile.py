"""Recorded page traces, ``*.pages``: one guest page touch a line.

A line is a kind (``r`` read, ``w`` write, ``x`` execute) and a page number in hex, counted from
page 0; lines that begin with ``#`` and empty ones say nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from mshv_async.hyperv import Access

_KINDS: Final = {"r": Access.READ, "w": Access.WRITE, "x": Access.EXECUTE}


class Touch(NamedTuple):
    """One recorded access."""

    access: Access
    page: int


class Trace:
    """A recorded sequence of touches; ``pages``: one more than the highest page touched."""

    __slots__ = ("name", "pages", "touches")

    def __init__(self, name: str, touches: tuple[Touch, ...]) -> None:
        self.name = name
        self.touches = touches
        self.pages = max(touch.page for touch in touches) + 1


def parse_trace(text: str, name: str) -> Trace:
    """Read a trace from text; ``name`` is for messages.

    Raises ValueError with one line, ``name:line: what``, at the first line that is not a touch,
    and for a text without any.
    """
    touches = tuple(
        _touch(line, name, number)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.startswith("#")
    )
    if not touches:
        raise ValueError(f"{name}: no touch in the trace")
    return Trace(name, touches)


def read_trace(path: Path) -> Trace:
    """Read a trace file; errors as :func:`parse_trace`, and OSError when it cannot be read."""
    try:
        text = path.read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a page trace, it is not plain text") from None
    return parse_trace(text, str(path))


def _touch(line: str, name: str, number: int) -> Touch:
    words = line.split()
    if len(words) != 2:
        raise ValueError(f"{name}:{number}: expected a kind and a page number, found {line!r}")
    access = _KINDS.get(words[0])
    if access is None:
        raise ValueError(f"{name}:{number}: kind {words[0]!r} is none of r, w, x")
    if not all(c in "0123456789abcdefABCDEF" for c in words[1]):
        raise ValueError(f"{name}:{number}: page {words[1]!r} is not a hexadecimal number")
    return Touch(access, int(words[1], 16))
