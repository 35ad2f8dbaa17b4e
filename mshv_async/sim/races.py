"""The happens-before checker: conflicting accesses that neither a lock nor a point orders.

Vector clocks after Lamport and Mattern, as in FastTrack (Flanagan and Freund, PLDI 2009) without
its epoch compression. A step's declared operation is a synchronisation on its object: it joins
the object's clock. Every other access is plain. Two plain accesses of different threads to the
same state, one of them a write, that no clock orders, are a missing scheduling point: a step is
atomic here although the C in between is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mshv_async.sim.shared import model_class, name_of

if TYPE_CHECKING:
    from mshv_async.sim.op import Op
    from mshv_async.sim.thread import Thread

Clock = dict[int, int]


@dataclass(frozen=True, slots=True)
class Race:
    """Two unordered accesses: the state, and who did what in which step."""

    state: str
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.state}: {self.first} and {self.second} are unordered"


class _Access(NamedTuple):
    """One access to keys ``[lo, hi)``, at a thread's own time."""

    lo: int
    hi: int
    write: bool
    tid: int
    time: int
    place: str


class RaceChecker:
    """Watches one execution; ``races`` holds what it found, each pair of places once."""

    def __init__(self) -> None:
        self.races: dict[tuple[str, str, str], Race] = {}
        self._clocks: dict[int, Clock] = {}
        self._objects: dict[int, tuple[Any, Clock]] = {}
        self._state: dict[tuple[int, str], tuple[Any, list[_Access]]] = {}
        self._thread: Thread | None = None
        self._op: Op | None = None
        self._claimed = False

    def spawned(self, thread: Thread, by: Thread | None) -> None:
        """Order the creator's past before the new thread."""
        clock = dict(self._clocks.get(by.tid, {})) if by is not None else {}
        clock[thread.tid] = 1
        self._clocks[thread.tid] = clock

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Join the clock of the declared object, both ways."""
        self._thread, self._op = thread, op
        self._claimed = op.obj is not None
        if op.obj is not None:
            self._synchronise(thread, op.obj)

    def _synchronise(self, thread: Thread, obj: Any) -> None:
        clock = self._clocks.setdefault(thread.tid, {thread.tid: 1})
        entry = self._objects.get(id(obj))
        if entry is None:
            entry = self._objects[id(obj)] = (obj, {})
        for tid, count in entry[1].items():
            if clock.get(tid, 0) < count:
                clock[tid] = count
        entry[1].update(clock)
        clock[thread.tid] = clock.get(thread.tid, 0) + 1

    def touched(self, obj: Any, what: str, write: bool, lo: int, hi: int) -> None:
        """Compare a plain access with the last ones of the other threads."""
        thread, op = self._thread, self._op
        if thread is None or op is None:
            return
        if model_class(obj)._sync or obj is op.obj:  # type: ignore[attr-defined]
            # Locks, queues, counters order threads wherever in a step they are used.
            self._synchronise(thread, obj)
            return
        if not self._claimed:
            # A bare step(label) declares the first thing that it touches.
            self._claimed = True
            self._op = type(op)(op.label, obj, lo, hi, write)
            self._synchronise(thread, obj)
            return
        self._compare(thread, obj, what, write, (lo, max(hi, lo + 1)))

    def _compare(
        self, thread: Thread, obj: Any, what: str, write: bool, keys: tuple[int, int]
    ) -> None:
        # The object is kept with its history, so that no other takes its identity.
        _, known = self._state.setdefault((id(obj), what), (obj, []))
        clock = self._clocks[thread.tid]
        op = self._op
        assert op is not None
        lo, hi = keys
        here = f"{'write' if write else 'read'} by {thread.kind or thread.name} after {op.label}"
        kept = []
        for old in known:
            meets = old.lo < hi and lo < old.hi and (write or old.write)
            if meets and old.tid != thread.tid and clock.get(old.tid, 0) < old.time:
                self._found(obj, what, old.place, here)
            covered = lo <= old.lo and old.hi <= hi
            if not covered or not (write or (old.tid == thread.tid and not old.write)):
                kept.append(old)
        kept.append(_Access(lo, hi, write, thread.tid, clock[thread.tid], here))
        known[:] = kept

    def _found(self, obj: Any, what: str, first: str, second: str) -> None:
        state = f"{name_of(obj)}.{what}" if what else name_of(obj)
        self.races.setdefault((state, first, second), Race(state, first, second))

    def step_ended(self, thread: Thread) -> None:
        """Begin the thread's next epoch."""
        clock = self._clocks.setdefault(thread.tid, {})
        clock[thread.tid] = clock.get(thread.tid, 0) + 1
