"""Values of which only equality (and parity) matters, so that state keys can rename them."""

from __future__ import annotations


class Seq:
    """A sequence number: equality, parity and the next one, nothing else.

    Unlike an int it cannot be ordered, so a state key may rename it by first occurrence.
    """

    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        self.n = n

    @property
    def odd(self) -> bool:
        """Whether the number is odd."""
        return bool(self.n & 1)

    def next(self, by: int = 1) -> Seq:
        """Return the number ``by`` further on."""
        return Seq(self.n + by)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seq) and other.n == self.n

    def __hash__(self) -> int:
        return hash(self.n)

    def __repr__(self) -> str:
        return f"seq {self.n}"


class Token:
    """A serial number: equality only."""

    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and other.n == self.n

    def __hash__(self) -> int:
        return hash(self.n)

    def __repr__(self) -> str:
        return f"#{self.n}"


class Tag(str):
    """Who wrote a page last: a word. Equality only; empty pages hold 0 instead of a tag."""

    __slots__ = ()
