"""What is wrong with a scenario file, in one line."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FOUND_MAX = 60


class ScenarioError(ValueError):
    """A scenario cannot be used; ``str()`` is one line for the user, without a traceback.

    It names the ``file``, the ``key`` (dotted, with list indices from 0, or a line and column
    where the file is not even TOML), what was ``found`` there and what is ``allowed``.
    """

    def __init__(self, file: str, key: str, found: str, allowed: str) -> None:
        where = f"{file}: {key}" if key else file
        super().__init__(one_line(f"{where}: found {found}; allowed: {allowed}"))
        self.file = file
        self.key = key
        self.found = found
        self.allowed = allowed


class Misfit(ValueError):
    """A value that does not fit, before the file and key are known."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(f"found {found}; allowed: {allowed}")
        self.found = found
        self.allowed = allowed

    def at(self, file: str, key: str) -> ScenarioError:
        """Return the error that names the place as well."""
        return ScenarioError(file, key, self.found, self.allowed)


def one_line(text: str) -> str:
    """Return the text without line breaks and other control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def quoted(text: str) -> str:
    """Return a user's text in quotes, shortened, on one line."""
    text = one_line(text)
    return f'"{text[:_FOUND_MAX]}…"' if len(text) > _FOUND_MAX else f'"{text}"'


def show(value: object) -> str:
    """Describe a TOML value as a user would recognise it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int() | float():
            return str(value)
        case dict():
            return "a table"
        case list() | tuple():
            return "an array"
    return str(value)


def close_match(word: str, known: Iterable[str]) -> str:
    """Return ' (did you mean "x"?)' for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""


def listed(words: Iterable[str]) -> str:
    """Return the words as an enumeration."""
    return ", ".join(words)
