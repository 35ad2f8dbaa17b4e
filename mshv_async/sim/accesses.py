"""What each step of an execution depends on: its footprint, and when two of them conflict.

Two steps of different threads that do not conflict may change places, and nothing that follows
can tell. Partial order reduction, happens-before and shrinking all stand on that, so a footprint
holds everything that a step may see or change:

- each slot, key and range of a modelled object that it read or wrote, what the oracle looked at
  when the step was judged included;
- the declared operation, if its object orders threads (a lock, a queue) and is one place,
  whichever of its fields are used (those with ``_parts`` are not);
- what the guard of the operation read;
- whether the thread was signalled, when threads finish (where one goes on for ever), timers.

Objects are told apart by name: the same in every execution with the same past, and two objects of
one name only make more steps conflict than do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.sim.current import current_thread
from mshv_async.sim.faults import ModelFault
from mshv_async.sim.shared import is_freed, model_class, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mshv_async.sim.op import Op
    from mshv_async.sim.shared import Dormant
    from mshv_async.sim.thread import Thread

READ, WRITE, COUNT = "r", "w", "count"

Place = tuple[str, str]
"""An object's name and which part of it; one part only for objects that order threads."""

TIMERS: Place = ("runtime", "timers")
"""Which timers are set, and when."""

CLOSING: Place = ("runtime", "closing")
"""Whether only daemons and threads that go on for ever are left. Then daemons no longer start, and
timers that would wake daemons no longer fire."""

Stand = tuple[object, ...]
"""Where a thread stands, its operation first: equal ones are the same lines of code, too."""

Access = tuple[int, int, str]
"""Half-open range (empty: all of it), and READ, WRITE, or how the operation commutes, as COUNT.

A write into a map says of what kind the values were that it changed: see :func:`change_of`.
"""

Change = tuple[int, int, str | None]
"""A piece of a map that was written: range, and the kind of what changed; None if nothing did."""

_CHANGE, _READ_OF = f"{WRITE}|", f"{READ}|"


def change_of(kind: str) -> str:
    """Return the mode of a write that changes values of a kind: it needs them to be there."""
    return _CHANGE + kind


def read_of(kind: str) -> str:
    """Return the mode of a read that finds values of a kind; no footprint has it."""
    return _READ_OF + kind


def is_write(mode: str) -> bool:
    """Say whether an access in this mode conflicts with others of its mode."""
    return mode == WRITE or mode.startswith(_CHANGE)


class Footprint:
    """What one step of thread ``tid`` read and wrote, by place; ``op`` is what it began with.

    ``guards``: of the ordering objects that it met, by name, which of their guards held before.
    ``fatal``: it ended the execution before its time. ``ends``: and what that came to depends on
    where all others stood. ``waited``: the accesses that its declaration and its guard make.

    ``stand``: where the thread stood before, if that is recorded. ``bits``: all accesses as
    :class:`~mshv_async.sim.futures.Futures` numbers them, -1 until it does.
    """

    __slots__ = (
        "accesses",
        "bits",
        "ends",
        "fatal",
        "guards",
        "op",
        "stand",
        "tid",
        "waited",
    )

    def __init__(self, tid: int, op: Op) -> None:
        self.tid = tid
        self.op = op
        self.stand: Stand = ()
        self.waited: tuple[tuple[Place, Access], ...] = ()
        self.bits = -1
        self.accesses: dict[Place, list[Access]] = {}
        self.guards: dict[str, dict[str, bool]] = {}
        self.ends = False
        self.fatal = False

    def add(self, place: Place, lo: int, hi: int, mode: str) -> None:
        """Enter an access, once."""
        known = self.accesses.get(place)
        access = (lo, hi, mode)
        if known is None:
            self.accesses[place] = [access]
        elif access not in known:
            known.append(access)

    def join(self, other: Footprint) -> None:
        """Take over the accesses of another way that the same step can go."""
        for place, accesses in other.accesses.items():
            for access in accesses:
                self.add(place, *access)

    def __repr__(self) -> str:
        return f"<footprint of {self.op.line()} by {self.tid}: {self.accesses}>"


def conflict(one: Footprint, other: Footprint) -> bool:
    """Say whether the order of two steps of different threads can matter."""
    return one.ends or other.ends or touch(one, other)


def touch(one: Footprint, other: Footprint) -> bool:
    """Say whether two steps touch the same place in ways that do not commute."""
    a, b = one.accesses, other.accesses
    if len(b) < len(a):
        a, b = b, a
    for place, accesses in a.items():
        others = b.get(place)
        if others is not None and any(clash(x, y) for x in accesses for y in others):
            return True
    return False


def clash(x: Access, y: Access) -> bool:
    """Say whether two accesses of one place do not commute."""
    a, b = x[2], y[2]
    if a == b and not is_write(a):
        return False
    if (a[:2] == _READ_OF or b[:2] == _READ_OF) and not _meet(a, b):
        return False
    return x[1] <= x[0] or y[1] <= y[0] or (x[0] < y[1] and y[0] < x[1])


def _meet(a: str, b: str) -> bool:
    """Say whether what one access finds can be what the other changes, ranges aside."""
    if _CHANGE in (a[:2], b[:2]):
        return a[2:] == b[2:]
    return READ not in (a, b) and a[:2] != b[:2]


class AccessRecorder:
    """Records the footprints of one execution: ``steps[i]`` is that of ``rt.trace[i]``.

    While ``on`` is False, and for the first ``skip`` steps, the entries are None: steps that a
    search repeats need no second look. ``pending``: what the threads were about to do that had
    not finished when the execution ended, and whether they could. ``parents``: by tid of a
    thread that was created while the execution ran, the index of the step that did it.
    ``locate`` says where a thread stands, if the search wants to know. ``dormant``: the objects
    that are to report from the first recorded step on.
    """

    def __init__(self, dormant: Dormant | None = None, *, on: bool = True) -> None:
        self.on = on
        self.locate: Callable[[Thread], Stand] | None = None
        self.dormant = dormant
        self.skip = 0
        self.pending: list[tuple[Footprint, bool]] = []
        self.steps: list[Footprint | None] = []
        self.parents: dict[int, int] = {}
        self._step: Footprint | None = None
        self._own: str | None = None  # the ordering object that the declared operation speaks for

    def spawned(self, thread: Thread, by: Thread | None) -> None:
        """Remember which step created a thread."""
        if by is not None and self.steps:
            self.parents[thread.tid] = len(self.steps) - 1

    def fired(self, sleeper: Thread) -> None:
        """End the step in which a timer fires."""
        if sleeper.daemon:
            self.told(CLOSING, READ)
        self._step = None

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Begin a footprint with what was declared."""
        if not self.on or len(self.steps) < self.skip:
            self._step = None
            self.steps.append(None)
            return
        if self.dormant is not None:
            self.dormant.wake()
            self.dormant = None
        self._step = step = Footprint(thread.tid, op)
        if self.locate is not None:
            step.stand = self.locate(thread)
        self.steps.append(step)
        self._declared(step, thread, op)

    def _declared(self, step: Footprint, thread: Thread, op: Op) -> None:
        """Enter what is known before a step: its operation, and what lets it happen."""
        self._own = None
        step.add(("thread", thread.name), 0, 0, READ)
        if thread.forever or (thread.daemon and op.label == "thread.start"):
            step.add(CLOSING, 0, 0, READ)
        if op.label == "timer.fire":
            step.add(TIMERS, 0, 0, READ)
        obj = op.obj
        if obj is not None and _is_one_place(obj):
            mode = op.commutes or (WRITE if op.write else READ)
            self._own = name = name_of(obj)
            self._look_at_guards(step, obj, name)
            step.add((name, ""), op.lo, op.hi, mode)
            if op.looks:
                step.add((name, "arrivals"), 0, 0, READ)
        if op.guard is not None:
            token = current_thread.set(thread)
            try:
                op.guard(thread)
            finally:
                current_thread.reset(token)
        step.waited = tuple((place, x) for place, met in step.accesses.items() for x in met)

    def _look_at_guards(self, step: Footprint, obj: Any, name: str) -> None:
        """Note which guards of an ordering object hold before the step changes it."""
        if is_freed(obj):
            return
        names: tuple[str, ...] = model_class(obj)._guards  # type: ignore[attr-defined]
        if names:
            self._step = None  # looking is no access of the step
            try:
                step.guards[name] = {guard: bool(getattr(obj, guard)(None)) for guard in names}
            except AttributeError:  # the step is about to make it
                step.guards[name] = {}
            self._step = step

    def ended(self, threads: list[Thread]) -> None:
        """Keep what the threads were about to do when the execution ended."""
        if not self.on:
            return
        for thread in threads:
            if not thread.finished:
                self._step = step = Footprint(thread.tid, thread.op)
                if self.locate is not None:
                    step.stand = self.locate(thread)
                able = True
                try:
                    self._declared(step, thread, thread.op)
                    able = thread.enabled
                except ModelFault:  # what it waited for was freed just now
                    pass
                self._step = None
                if able and thread.op.label == "timer.fire":
                    step.add(CLOSING, 0, 0, READ)
                self.pending.append((step, able))

    def touched(self, obj: Any, what: str, write: bool, lo: int, hi: int) -> None:
        """Enter an access of the step, or of the oracle that judges it."""
        step = self._step
        if step is None:
            return
        mode = WRITE if write else READ
        name = name_of(obj)
        if not _is_one_place(obj):
            step.add((name, what), lo, hi, mode)
        elif name != self._own:
            if name not in step.guards:
                self._look_at_guards(step, obj, name)
            step.add((name, ""), lo, hi, mode)

    observed = touched

    def counted(self, obj: Any, lo: int, hi: int) -> None:
        """Enter counting up or down in a range of a map."""
        if self._step is not None:
            self._step.add((name_of(obj), ""), lo, hi, COUNT)

    def changed(self, obj: Any, pieces: Iterable[Change]) -> None:
        """Enter a write into a map, piece by piece.

        To write what is there already is like reading it: nothing can tell.
        """
        step = self._step
        if step is not None:
            place = (name_of(obj), "")
            for lo, hi, kind in pieces:
                step.add(place, lo, hi, READ if kind is None else change_of(kind))

    def told(self, place: Place, mode: str = WRITE) -> None:
        """Enter an access of what is no modelled object: threads, timers."""
        if self._step is not None:
            self._step.add(place, 0, 0, mode)

    def step_ended(self, thread: Thread) -> None:
        """Enter where the thread stands now, if others can see it there."""
        op = thread.op
        if self._step is not None and op.arrives and not thread.finished:
            self._step.add((op.object_name, "arrivals"), 0, 0, "arrive")
        self._step = None


def _is_one_place(obj: Any) -> bool:
    cls = model_class(obj)
    return cls._sync and not cls._parts  # type: ignore[attr-defined]
