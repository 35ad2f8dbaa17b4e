"""The happens-before checker: conflicting accesses that neither a lock nor a point orders.

Vector clocks after Lamport and Mattern, as in FastTrack (Flanagan and Freund, PLDI 2009) without
its epoch compression. A step's declared operation is a synchronisation on its object: it joins
the object's clock. Every other access is plain. Two plain accesses of different threads to the
same state, one of them a write, that no clock orders, are a missing scheduling point: a step is
atomic here although the C in between is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


class _History:
    """The last write and the reads since it, of one piece of state."""

    __slots__ = ("keep", "readers", "write", "writer")

    def __init__(self, obj: Any) -> None:
        self.keep = obj  # so that no other object takes its identity
        self.writer: tuple[int, int, str] | None = None
        self.readers: dict[int, tuple[int, str]] = {}


class RaceChecker:
    """Watches one execution; ``races`` holds what it found, each pair of places once."""

    def __init__(self) -> None:
        self.races: dict[tuple[str, str, str], Race] = {}
        self._clocks: dict[int, Clock] = {}
        self._objects: dict[int, tuple[Any, Clock]] = {}
        self._state: dict[tuple[int, str, int], _History] = {}
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
        for key in range(lo, hi) if 0 < hi - lo <= 8 else (-1,):
            self._compare(thread, obj, what, write, key)

    def _compare(self, thread: Thread, obj: Any, what: str, write: bool, key: int) -> None:
        history = self._state.get((id(obj), what, key))
        if history is None:
            history = self._state[id(obj), what, key] = _History(obj)
        clock = self._clocks[thread.tid]
        op = self._op
        assert op is not None
        here = f"{'write' if write else 'read'} by {thread.kind or thread.name} after {op.label}"
        last = history.writer
        if last is not None and last[0] != thread.tid and clock.get(last[0], 0) < last[1]:
            self._found(obj, what, last[2], here)
        if write:
            for tid, (count, place) in history.readers.items():
                if tid != thread.tid and clock.get(tid, 0) < count:
                    self._found(obj, what, place, here)
            history.writer = (thread.tid, clock[thread.tid], here)
            history.readers.clear()
        else:
            history.readers[thread.tid] = (clock[thread.tid], here)

    def _found(self, obj: Any, what: str, first: str, second: str) -> None:
        state = f"{name_of(obj)}.{what}" if what else name_of(obj)
        self.races.setdefault((state, first, second), Race(state, first, second))

    def step_ended(self, thread: Thread) -> None:
        """Begin the thread's next epoch."""
        clock = self._clocks.setdefault(thread.tid, {})
        clock[thread.tid] = clock.get(thread.tid, 0) + 1
