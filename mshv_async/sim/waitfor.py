"""The wait-for graph: who waits for whom, and whether that closes a cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim import verdicts
from mshv_async.sim.op import INTERRUPTIBLE

if TYPE_CHECKING:
    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread


def blockers(thread: Thread) -> list[Thread]:
    """Return who can end the thread's wait; empty if it does not wait or nobody is known.

    An interruptible wait, or one that a timer ends, closes no cycle: it has no blockers here.
    """
    op = thread.op
    if thread.finished or op.guard is None or op.holders is None or op.timed:
        return []
    if op.wait == INTERRUPTIBLE or thread.enabled:
        return []
    return [t for t in op.holders() if t is not None]


def find_cycle(start: Thread) -> list[Thread] | None:
    """Return the shortest cycle of waiting threads through ``start``, which comes first."""
    frontier: list[list[Thread]] = [[start]]
    seen = {start.tid}
    while frontier:
        longer: list[list[Thread]] = []
        for path in frontier:
            for nxt in blockers(path[-1]):
                if nxt is start:
                    return path
                if nxt.tid not in seen:
                    seen.add(nxt.tid)
                    longer.append([*path, nxt])
        frontier = longer
    return None


def check_cycle(rt: Runtime, thread: Thread) -> None:
    """End the execution with ``deadlock`` if the thread's new wait closes a cycle."""
    holders = thread.op.holders
    if holders is None or all(t is None or t.op.holders is None for t in holders()):
        return  # the usual case: who can end it waits for nobody
    cycle = find_cycle(thread)
    if cycle is not None:
        rt.finish(verdicts.deadlock(rt, cycle, cycle))


def deadlock(rt: Runtime, waiting: list[Thread]) -> None:
    """End the execution: nothing can run and these threads wait."""
    for thread in waiting:
        cycle = find_cycle(thread)
        if cycle is not None:
            rt.finish(verdicts.deadlock(rt, cycle, waiting))
            return
    rt.finish(verdicts.deadlock(rt, [], waiting))


def wait_lines(threads: list[Thread]) -> tuple[str, ...]:
    """Say who waits for whom, one line a thread."""
    lines = []
    for thread in threads:
        op = thread.op
        who = ", ".join(t.name for t in (op.holders() if op.holders else ())) or "nobody known"
        lines.append(f"{thread.name} waits for {who} at {op.label} {op.object_name}".rstrip())
    return tuple(lines)
