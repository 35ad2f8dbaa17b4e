"""What each thread may still touch: learned from executions, for search that leaves steps out.

A thread stands somewhere: at a line of each function on its stack, before a declared operation.
For each such place all accesses are kept that can follow from it, to the end of the thread and of
those that it created: its *future*. If the next step of a thread conflicts with nothing in the
futures of all others, then it may go first: whatever they do before it, nothing would come out
differently (a persistent set of one; Godefroid, Partial-Order Methods for the Verification of
Concurrent Systems, 1996).

A read of a map is compared by the kind of what is there now: before that changes, somebody has to
write over a value of this kind. A page table entry that is present, say, is left alone by all who
only fill absent ones (Valmari's necessary enabling sets, in Godefroid's book too).

Static analysis would find futures from the code; here they are learned. Executions show which
place follows which, and what each operation of a thread touches, wherever in its code it is; a
future is what is touched at all places that can be reached. An answer relies on what is known when
it is given, so it is remembered, and whatever is learned later is held against it (``broken``),
what the step itself turns out to touch included. A search is believed if nothing that it met broke
an answer that it relied on: of all executions in which a thread does what is not known, take the
shortest; all steps before are as known, so the search met it, or one like it, too.

A step that may end the execution never goes alone: what the others would come to is not seen then.

Accesses are numbered, and sets of them are bits of one integer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.sim.accesses import READ, WRITE, clash, is_write, read_of
from mshv_async.sim.rangemap import RangeMap
from mshv_async.sim.shared import is_freed, model_class

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mshv_async.sim.accesses import Access, Footprint, Place, Stand
    from mshv_async.sim.op import Op
    from mshv_async.sim.shared import Shared
    from mshv_async.sim.thread import Thread

#: A place of which more ranges are touched than this counts as touched whole.
RANGES_MAX = 12

Reliance = tuple[int, int, list["Stand"]]
"""What was known of a step when it was answered for, what else it may not conflict with, and where
the others stood."""


def stand_of(thread: Thread) -> Stand:
    """Return where a suspended thread stands: its name and operation, then its lines of code."""
    op = thread.op
    found: list[object] = [(thread.name, op.label, op.object_name, op.lo, op.hi)]
    coro: Any = thread.coro
    while coro is not None:
        frame = getattr(coro, "cr_frame", None)
        if frame is None:
            break
        found.append(frame.f_code.co_qualname)
        found.append(frame.f_lasti)
        coro = coro.cr_await
    return tuple(found)


class Futures:
    """Learned futures, and what answers given so far rely on.

    ``broken``: something was learned that an answer relied on not to happen. ``grown``: a future
    has grown; whoever looks sets it back.
    """

    def __init__(self) -> None:
        self.broken = False
        self.grown = False
        self._numbers: dict[tuple[Place, Access], int] = {}
        self._at: dict[Place, list[tuple[Access, int]]] = {}
        self._known: list[tuple[Place, Access]] = []  # by number
        self._reads = 0  # the bits of those that read a range
        self._clashing: list[int] = []  # of each access: the bits of those it conflicts with
        self._steps: dict[object, int] = {}  # by the first of the stand: thread and operation
        self._fatal: set[object] = set()  # operations that ended an execution; membership only
        self._waits: dict[Stand, int] = {}  # what decides whether the step there can happen
        self._after: dict[Stand, int] = {}
        self._before: dict[Stand, dict[Stand, None]] = {}  # which stands lead to one directly
        self._against: dict[int, int] = {}
        # Relied on: what follows from there, or what the step there waits for, conflicts with none
        # of these.
        self._not_after: dict[Stand, int] = {}
        self._not_meeting: dict[Stand, int] = {}

    def forget_answers(self) -> None:
        """Begin again with what was learned: no answer was given yet."""
        self.broken = False
        self._not_after.clear()
        self._not_meeting.clear()

    # -- sets of accesses ------------------------------------------------------------------

    def bits(self, step: Footprint) -> int:
        """Return the accesses of a step as bits."""
        known = step.bits
        if known < 0:
            known = 0
            for place, accesses in step.accesses.items():
                for access in accesses:
                    known |= 1 << self._number(place, access)
            step.bits = known
        return known

    def _number(self, place: Place, access: Access) -> int:
        number = self._numbers.get((place, access))
        if number is not None:
            return number
        entries = self._at.setdefault(place, [])
        if access[1] > access[0] and len({x[:2] for x, _ in entries}) >= RANGES_MAX:
            whole = (0, 0, access[2])
            number = self._numbers[place, access] = self._number(place, whole)
            return number
        number = len(self._clashing)
        mine = 0
        for other, index in entries:
            if clash(access, other):
                mine |= 1 << index
                self._clashing[index] |= 1 << number
        if is_write(access[2]):
            mine |= 1 << number
        elif access[2] == READ and access[1] > access[0]:
            self._reads |= 1 << number
        self._known.append((place, access))
        self._clashing.append(mine)
        entries.append((access, number))
        self._numbers[place, access] = number
        self._against.clear()
        return number

    def against(self, bits: int) -> int:
        """Return the bits of all accesses that conflict with one of a set."""
        found = self._against.get(bits)
        if found is None:
            found, rest = 0, bits
            while rest:
                low = rest & -rest
                found |= self._clashing[low.bit_length() - 1]
                rest ^= low
            self._against[bits] = found
        return found

    # -- learning --------------------------------------------------------------------------

    def learn(
        self,
        steps: Sequence[Footprint],
        parents: Mapping[int, int],
        ends: Mapping[int, Stand],
        waiting: Sequence[Footprint] = (),
    ) -> None:
        """Take over one execution.

        ``steps`` in order; ``parents``: by tid of a thread that was created, which step did it;
        ``ends``: where the threads stood that had not finished when it was cut, if it was;
        ``waiting``: what they were about to do when it came to its end, guards that never held
        included.
        """
        next_stand: dict[int, Stand] = dict(ends)
        for step in waiting:
            self._learn_step(step, step.stand)
            next_stand[step.tid] = step.stand
        children: dict[int, list[int]] = {}
        for tid, index in parents.items():
            children.setdefault(index, []).append(tid)
        for index in range(len(steps) - 1, -1, -1):
            step = steps[index]
            if not step.stand:  # before the first decision, where nothing is asked
                break
            self._learn_step(step, step.stand)
            for tid in (step.tid, *children.get(index, ())):
                if tid in next_stand:
                    self._lead(step.stand, next_stand[tid])
            next_stand[step.tid] = step.stand

    def _lead(self, stand: Stand, to: Stand) -> None:
        """Note that one stand can follow another."""
        before = self._before.setdefault(to, {})
        if stand not in before:
            before[stand] = None
            self._grow(stand, self._after.get(to, 0))

    def _grow(self, stand: Stand, bits: int) -> None:
        """Enter what can follow from a stand, there and at all that lead to it."""
        todo = [(stand, bits)]
        while todo:
            stand, bits = todo.pop()
            known = self._after.get(stand, 0)
            new = bits & ~known
            if not new:
                continue
            self._after[stand] = known | new
            self.grown = True
            met = self._not_after.get(stand)
            if met:
                self.broken |= bool(self.against(new) & met)
            todo += [(earlier, new) for earlier in self._before.get(stand, ())]

    def _learn_step(self, step: Footprint, stand: Stand) -> None:
        bits, waits = self.bits(step), 0
        for place, access in step.waited:
            waits |= 1 << self._number(place, access)
        self._steps[stand[0]] = self._steps.get(stand[0], 0) | bits
        self._grow(stand, bits)
        # A guard may read, another time, what the step only touched before.
        known = self._waits.get(stand, 0)
        if waits & ~known:
            self._waits[stand] = known | waits
            apart = self._not_meeting.get(stand)
            if apart:
                self.broken |= bool(self.against(waits) & apart)

    # -- asking ----------------------------------------------------------------------------

    def alone(
        self,
        threads: Sequence[Thread],
        enabled: Sequence[Thread],
        objects: Mapping[str, Shared | None],
    ) -> tuple[int, Reliance] | None:
        """Return who may go first, by index in ``enabled``, and for :meth:`hold` why; else None.

        ``threads``: all that are not finished. Threads that work for each other take turns, so
        one of them may go first only if none of the others can go before it. ``objects``: by name,
        None where several had it.
        """
        stands = {t.tid: stand_of(t) for t in threads}
        groups = self._groups(threads, stands)
        if groups is None:
            return None
        for index, thread in enumerate(enabled):
            root = _root(thread)
            others = 0
            for other, future in groups.items():
                if other != root:
                    others |= future
            operation = stands[thread.tid][0]
            known = self._steps.get(operation)
            mine = [t for t in threads if t is not thread and _root(t) == root]
            if known is None or operation in self._fatal or any(t in enabled for t in mine):
                continue
            step = self._as_it_is(known, objects) if self.against(known) & others else known
            for t in mine:
                step |= self._waits.get(stands[t.tid], 0)
            if self.against(step) & others:
                continue
            for t in mine:
                stand = stands[t.tid]
                self._not_meeting[stand] = self._not_meeting.get(stand, 0) | others
            elsewhere = [stands[t.tid] for t in threads if _root(t) != root]
            for stand in elsewhere:
                self._not_after[stand] = self._not_after.get(stand, 0) | step
            return index, (known, others, elsewhere)
        return None

    def _groups(
        self, threads: Sequence[Thread], stands: Mapping[int, Stand]
    ) -> dict[int, int] | None:
        """Return the futures of threads that work for each other, by root; None if unknown."""
        groups: dict[int, int] = {}
        for t in threads:
            future = self._after.get(stands[t.tid])
            if future is None:
                future = self._declared(t.op)
                if future < 0:
                    return None
            root = _root(t)
            groups[root] = groups.get(root, 0) | future
        return groups

    def hold(self, step: Footprint, reliance: Reliance) -> None:
        """Hold against an answer what the step that it was given for turned out to touch."""
        known, others, elsewhere = reliance
        more = self.bits(step) & ~known
        if not more:
            return
        for stand in elsewhere:
            others |= self._after.get(stand, 0)
            self._not_after[stand] = self._not_after.get(stand, 0) | more
        self.broken |= bool(self.against(more) & others)

    def ended(self, stand: Stand, *, alone: bool) -> None:
        """Learn that a step there can end an execution, which hides what the others would do.

        ``alone``: an answer let it go first.
        """
        self._fatal.add(stand[0] if stand else None)
        self.broken |= alone

    def _declared(self, op: Op) -> int:
        """Return what is known of a stand that nobody went on from; -1: too little."""
        obj = op.obj
        if obj is not None and model_class(obj)._sync:  # type: ignore[attr-defined]
            return 1 << self._number((op.object_name, ""), (0, 0, WRITE))
        return 0 if op.guard is None else -1

    def _as_it_is(self, step: int, objects: Mapping[str, Shared | None]) -> int:
        """Return the accesses of a step, its reads of maps with the kind of what is there now.

        What a step reads stays as it is until a write comes that changes values of that kind.
        """
        found, rest = step, step & self._reads
        while rest:
            low = rest & -rest
            rest ^= low
            place, (lo, hi, _) = self._known[low.bit_length() - 1]
            held = objects.get(place[0])
            if isinstance(held, RangeMap) and not is_freed(held):
                found ^= low
                for a, b, kind in held.kinds(lo, hi):
                    found |= 1 << self._number(place, (a, b, read_of(kind)))
        return found


def _root(thread: Thread) -> int:
    while thread.serves is not None:
        thread = thread.serves
    return thread.tid
