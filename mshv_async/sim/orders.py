"""In which order conflicting steps of different threads came.

A *pair* is two declared operations on one object, the second being the next one on that object
that was declared at all: of different threads, and conflicting (``sim.op.conflict``).
Each is known by its thread, its label and the object's name, so that a pair means the same in
every execution. Giving back what was taken (``mutex.unlock``) is left out: its place follows from
the taking, and in between nobody else could take it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mshv_async.sim.op import conflict

if TYPE_CHECKING:
    from mshv_async.sim.op import Op
    from mshv_async.sim.runtime import Runtime

OrderedPair: TypeAlias = tuple[str, str, str, str, str]
"""Object, thread and label of the first, thread and label of the second."""


def ordered_pairs(rt: Runtime) -> dict[OrderedPair, None]:
    """Return the pairs of an execution, in the order in which they first came."""
    found: dict[OrderedPair, None] = {}
    threads = rt.all_threads
    latest: dict[int, tuple[int, Op]] = {}  # by the object's id, for this call only; the trace
    # keeps the objects alive
    for step in rt.trace:
        tid, op = step
        obj = op.obj
        if obj is None or op.label[-6:] == "unlock":
            continue
        key = id(obj)
        before = latest.get(key)
        latest[key] = step
        if before is not None and before[0] != tid:
            earlier = before[1]
            if (op.write or earlier.write) and conflict(earlier, op):
                first = threads[before[0]].name
                found[op.object_name, first, earlier.label, threads[tid].name, op.label] = None
    return found


def reverse(pair: OrderedPair) -> OrderedPair:
    """Return the same two steps in the other order."""
    obj, first, label, second, other = pair
    return obj, second, other, first, label
