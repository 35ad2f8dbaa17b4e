"""Fair lassos of a state graph: endless executions in which somebody waits for ever, fairly.

A violation of progress is an endless execution, and in a finite graph one that has a violation has
one of the shape of a lasso: a path (the stem) to a loop that is then repeated for ever. The loop
counts only if it is strongly fair: each thread that is enabled somewhere in it runs somewhere in
it. Else the scheduler, not the program, keeps the thread waiting.

Which loops are strongly fair is a Streett condition, decided as by Emerson and Lei (Modalities for
model checking, Science of Computer Programming 8, 1987) and Lichtenstein and Pnueli (POPL 1985):
in a strongly connected component where some thread is enabled and never runs, no fair loop visits
a state that enables it; these states go, what is left falls into smaller components, and each is
judged again. A component in which all that are enabled run has a closed walk through all of them.
For progress, this is done once for each thread that may owe some, without the edges on which it
makes any and without the states in which it owes none.

Departure: an edge stands for one step of one thread, so the conditions are on threads, not on
actions; and the loop that is returned is short, not the shortest (that is NP-hard).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence


class Edge(NamedTuple):
    """One step: ``thread`` took the graph from ``source`` to ``target``.

    ``progressed``: the threads that made progress with it, the stepping one or others.
    """

    source: int
    thread: int
    target: int
    progressed: Collection[int] = ()


class Node(NamedTuple):
    """A state: the threads that are enabled in it, and those that owe progress."""

    enabled: Collection[int]
    owing: Collection[int]


class Lasso(NamedTuple):
    """A loop that may be repeated for ever: ``loop`` leads from ``stem`` back to it.

    ``waiting`` owes progress in all of its states and makes none.
    """

    waiting: int
    stem: int
    loop: tuple[Edge, ...]


def fair_lasso(nodes: Mapping[int, Node], edges: Iterable[Edge]) -> Lasso | None:
    """Return a strongly fair loop in which a thread owes progress and makes none, or None.

    Threads and nodes are tried in ascending order, so that the same graph gives the same loop.
    A thread that is enabled in a node without having an edge there is never run: a graph that was
    not explored to its end has fewer fair loops than the program, never more. Time is
    O(threads² · (nodes + edges)) at worst.
    """
    all_edges = list(edges)
    for waiting in sorted({thread for node in nodes.values() for thread in node.owing}):
        kept = {number for number, node in nodes.items() if waiting in node.owing}
        graph: dict[int, list[Edge]] = {number: [] for number in sorted(kept)}
        for edge in all_edges:
            if edge.source in kept and edge.target in kept and waiting not in edge.progressed:
                graph[edge.source].append(edge)
        loop = _fair_loop(nodes, graph)
        if loop:
            return Lasso(waiting, loop[0].source, loop)
    return None


def _fair_loop(nodes: Mapping[int, Node], graph: dict[int, list[Edge]]) -> tuple[Edge, ...]:
    """Return a strongly fair loop of a graph, empty if there is none."""
    work = [set(graph)]
    while work:
        for component in components(graph, work.pop()):
            inner = [e for n in sorted(component) for e in graph[n] if e.target in component]
            if not inner:
                continue
            ran = {edge.thread for edge in inner}
            enabled = {thread for number in component for thread in nodes[number].enabled}
            kept_waiting = enabled - ran
            if not kept_waiting:
                return _closed_walk(inner, enabled)
            rest = {n for n in component if kept_waiting.isdisjoint(nodes[n].enabled)}
            if rest:
                work.append(rest)
    return ()


def components(  # noqa: C901 - one algorithm, with its own stack
    graph: Mapping[int, Sequence[Edge]], within: set[int]
) -> list[set[int]]:
    """Return the strongly connected components of the part of a graph that ``within`` names.

    Tarjan's algorithm (1972) with its own stack, so that no depth is too deep.
    """
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    open_nodes: list[int] = []
    is_open: set[int] = set()
    found: list[set[int]] = []
    for root in sorted(within):
        if root in index:
            continue
        path = [(root, iter(graph[root]))]
        while path:
            number, edges = path[-1]
            if number not in index:
                index[number] = low[number] = len(index)
                open_nodes.append(number)
                is_open.add(number)
            deeper = None
            for edge in edges:
                if edge.target not in within:
                    continue
                if edge.target not in index:
                    deeper = edge.target
                    break
                if edge.target in is_open:
                    low[number] = min(low[number], index[edge.target])
            if deeper is not None:
                path.append((deeper, iter(graph[deeper])))
                continue
            path.pop()
            if path:
                before = path[-1][0]
                low[before] = min(low[before], low[number])
            if low[number] == index[number]:
                found.append(_pop_down_to(number, open_nodes, is_open))
    return found


def _pop_down_to(number: int, open_nodes: list[int], is_open: set[int]) -> set[int]:
    component: set[int] = set()
    while number not in component:
        last = open_nodes.pop()
        is_open.discard(last)
        component.add(last)
    return component


def _closed_walk(edges: Sequence[Edge], threads: set[int]) -> tuple[Edge, ...]:
    """Return a closed walk over edges of one component on which every one of ``threads`` runs.

    Greedy: on to the nearest edge of a thread that has not run yet, at last back to the start.
    """
    leaving: dict[int, list[Edge]] = {}
    for edge in edges:
        leaving.setdefault(edge.source, []).append(edge)
    start = edges[0].source
    walk: list[Edge] = []
    missing = set(threads)
    while missing:
        walk += _shortest(leaving, walk[-1].target if walk else start, missing, None)
        missing.difference_update(edge.thread for edge in walk)
    if not walk or walk[-1].target != start:
        walk += _shortest(leaving, walk[-1].target if walk else start, (), start)
    return tuple(walk)


def _shortest(
    leaving: Mapping[int, Sequence[Edge]], at: int, threads: Collection[int], goal: int | None
) -> list[Edge]:
    """Return the shortest path of at least one edge whose last edge is of one of ``threads``.

    With ``goal``: whose last edge leads there.
    """
    reached: dict[int, Edge] = {}
    queue = deque([at])
    while queue:
        number = queue.popleft()
        for edge in leaving.get(number, ()):
            if edge.thread in threads or edge.target == goal:
                path = [edge]
                while path[-1].source != at:
                    path.append(reached[path[-1].source])
                return path[::-1]
            if edge.target not in reached and edge.target != at:
                reached[edge.target] = edge
                queue.append(edge.target)
    raise AssertionError("a strongly connected component has a path between any two of its nodes")
