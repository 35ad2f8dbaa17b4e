"""The lock-order graph over lock classes: inversions that no schedule has closed yet."""

from __future__ import annotations

from dataclasses import dataclass


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

    def merge(self, other: LockOrder) -> list[tuple[str, str]]:
        """Take over the edges of another graph; return the pairs that were new."""
        new = [pair for pair in other.edges if pair not in self.edges]
        for pair in new:
            self.edges[pair] = other.edges[pair]
        return new

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
