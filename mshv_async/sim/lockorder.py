"""The lock-order graph over lock classes: inversions that no schedule has closed yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Edge:
    """Class ``inner`` was taken while ``outer`` was held, first by ``thread`` at ``step``."""

    outer: str
    inner: str
    thread: str
    step: int


class LockOrder:
    """Collects edges of one execution or one campaign; read after it, so not part of any state."""

    __slots__ = ("edges",)

    def __init__(self) -> None:
        self.edges: dict[tuple[str, str], Edge] = {}

    def acquired(self, edge: Edge) -> None:
        """Record an edge unless its pair is known."""
        self.edges.setdefault((edge.outer, edge.inner), edge)

    def inversions(self) -> list[tuple[str, ...]]:
        """Return the simple cycles over lock classes, each once, smallest class first."""
        after: dict[str, list[str]] = {}
        for outer, inner in self.edges:
            if outer != inner:
                after.setdefault(outer, []).append(inner)
        found: list[tuple[str, ...]] = []
        for start in sorted(after):
            stack: list[tuple[str, tuple[str, ...]]] = [(start, (start,))]
            while stack:
                node, path = stack.pop()
                for nxt in sorted(after.get(node, ())):
                    if nxt == start:
                        found.append(path)
                    elif nxt > start and nxt not in path:
                        stack.append((nxt, (*path, nxt)))
        return found


def pairs_of(cycle: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of lock classes, outer and inner, that an inversion consists of."""
    return list(zip(cycle, (*cycle[1:], cycle[0]), strict=True))
