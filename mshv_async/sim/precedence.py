"""Happens-before over the steps of one execution, and which pairs of steps race.

A step happens before a later one if both are of one thread, if they conflict
(:mod:`mshv_async.sim.accesses`), if the earlier created the other's thread, or by way of a third.
Executions with the same order are equivalent: one Mazurkiewicz trace.

Two steps race if they conflict, nothing comes between them in that order, and the later could
have come first. A step with a guard could not if the guard was false there: the unlock that lets
a lock go on is no race with it. Then the step is looked at as if it had been tried there in vain:
what it conflicts with further back races with it instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.sim.accesses import READ, WRITE, Access, Footprint, Place, clash, touch
from mshv_async.sim.shared import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

Clock = dict[int, int]
"""By tid, how many steps of that thread happened before or are it."""

Visit = tuple[int, list[Access], bool]
"""A step, what it did to a place, and whether that was to write all of it."""


def opens(one: Footprint, other: Footprint) -> bool:
    """Say whether a step changes what another's guard looks at."""
    accesses = one.accesses
    return any(
        y[2] != READ and clash(x, y) for place, x in other.waited for y in accesses.get(place, ())
    )


class Precedence:
    """The steps of an execution in order, grown at the end and cut back with the search."""

    def __init__(self) -> None:
        self.steps: list[Footprint] = []
        self.clocks: list[Clock] = []
        self.ordinals: list[int] = []  # of a step among those of its thread, from 1
        self.able: list[frozenset[int]] = []  # who could go on before the step
        self._own: dict[int, list[int]] = {}
        self._visits: dict[Place, list[Visit]] = {}

    def __len__(self) -> int:
        return len(self.steps)

    def before(self, i: int, j: int) -> bool:
        """Say whether a step happens before another, or is it."""
        return self.clocks[j].get(self.steps[i].tid, 0) >= self.ordinals[i]

    def cut(self, length: int) -> None:
        """Forget all steps but the first so many."""
        while len(self.steps) > length:
            step = self.steps.pop()
            self.clocks.pop()
            self.ordinals.pop()
            self.able.pop()
            self._own[step.tid].pop()
            for place in step.accesses:
                self._visits[place].pop()

    def append(
        self, step: Footprint, parent: int | None, able: frozenset[int]
    ) -> tuple[list[int], Clock]:
        """Add a step; return its rivals, latest first, and its clock.

        ``parent``: the step that created its thread. Rivals: steps of other threads that it
        conflicts with, but those that come before its thread's last step or its parent. Some are
        left out that come before an unguarded step by way of another rival.
        """
        rivals, clock = self.placed(step, parent)
        own = self._own.setdefault(step.tid, [])
        index = len(self.steps)
        own.append(index)
        self.ordinals.append(len(own))
        self.steps.append(step)
        self.clocks.append(clock)
        self.able.append(able)
        for place, accesses in step.accesses.items():
            visit = (index, accesses, any(m == WRITE and hi <= lo for lo, hi, m in accesses))
            self._visits.setdefault(place, []).append(visit)
        return rivals, clock

    def placed(self, step: Footprint, parent: int | None) -> tuple[list[int], Clock]:
        """Return the rivals and the clock that a step would have as the next one."""
        own = self._own.get(step.tid, ())
        known: Clock = {}
        if own:
            known = self.clocks[own[-1]]
        elif parent is not None:
            known = self.clocks[parent]
        rivals = sorted(self._rivals(step, known), reverse=True)
        clock = dict(known)
        steps, ordinals = self.steps, self.ordinals
        for i in rivals:
            if clock.get(steps[i].tid, 0) < ordinals[i]:
                for tid, ordinal in self.clocks[i].items():
                    if clock.get(tid, 0) < ordinal:
                        clock[tid] = ordinal
        clock[step.tid] = len(own) + 1
        return rivals, clock

    def _rivals(self, step: Footprint, known: Clock) -> Iterable[int]:
        steps, ordinals = self.steps, self.ordinals
        if step.ends:
            return [
                i
                for i, other in enumerate(steps)
                if other.tid != step.tid and known.get(other.tid, 0) < ordinals[i]
            ]
        found = set()
        guarded = step.op.guard is not None
        for place, accesses in step.accesses.items():
            for i, others, whole in reversed(self._visits.get(place, ())):
                other = steps[i]
                if other.tid == step.tid or known.get(other.tid, 0) >= ordinals[i]:
                    if whole:
                        break  # what is older and conflicts came before it
                elif i in found or any(clash(x, y) for x in accesses for y in others):
                    found.add(i)
                    if whole and not guarded:
                        break
        return found

    def races(self, step: Footprint, at: int, rivals: list[int], parent: int | None) -> list[int]:
        """Return the steps that race with one that stands, or would stand, at index ``at``."""
        guard = step.op.guard
        found: list[int] = []
        closed: list[int] = []  # what comes before one of these is reversed once that is
        needed: list[int] = []  # without one of these the step could only be tried in vain
        for i in rivals:
            if any(self.before(i, k) for k in closed):
                continue
            if any(self.before(i, k) for k in needed) and not opens(self.steps[i], step):
                continue
            could = True if guard is None else self._could(i, step, at, rivals, parent)
            if could is False:
                needed.append(i)
                continue
            found.append(i)
            if could:
                closed.append(i)
        return found

    def _could(
        self, i: int, step: Footprint, at: int, rivals: list[int], parent: int | None
    ) -> bool | None:
        """Say whether a guarded step could go just before step ``i``; None: not known.

        What of the steps between does not come after ``i`` is taken to happen first.
        """
        if step.ends and not touch(self.steps[i], step):
            return True
        steps = self.steps
        if any(k > i and not self.before(i, k) and opens(steps[k], step) for k in rivals):
            return None  # what the guard looks at
        own = [k for k in self._own.get(step.tid, ()) if k < at]
        declared = own[-1] if own else -1 if parent is None else parent
        if declared < i:
            return step.tid in self.able[i]
        if any(k > i and opens(steps[k], step) for k in own) or self._signalled(i, step):
            return None
        return self._guarded(i, step.op.guard)

    def _signalled(self, i: int, step: Footprint) -> bool:
        """Say whether a signal may have been pending before step ``i`` that ends the wait."""
        if not step.op.interruptible:
            return False
        who = [place for place, _ in step.waited if place[0] == "thread"]
        visits = (visit for place in who for visit in self._visits.get(place, ()))
        return any(k < i and whole for k, _, whole in visits)

    def _guarded(self, i: int, guard: Any) -> bool | None:
        """Say what the guard was before step ``i``, if it is one that was looked at."""
        obj = getattr(guard, "__self__", None)
        if obj is None:
            return None
        return self.steps[i].guards.get(name_of(obj), {}).get(guard.__name__)

    def initials(self, i: int, step: Footprint, at: int, clock: Clock) -> list[int]:
        """Return the threads that can begin what leads to ``step`` without step ``i``.

        That is: all between that does not come after ``i``, and then the step; a thread can begin
        it if none of the rest comes before its first step there (POPL 2014, section 4).
        """
        first: dict[int, int] = {}
        found: list[int] = []
        steps, clocks, ordinals = self.steps, self.clocks, self.ordinals
        tid, ordinal = steps[i].tid, ordinals[i]
        for k in range(i + 1, at):
            mine = clocks[k]
            who = steps[k].tid
            if who in first or mine.get(tid, 0) >= ordinal:
                continue
            if all(mine.get(t, 0) < n for t, n in first.items()):
                found.append(who)
            first[who] = ordinals[k]
        if step.tid not in first and all(clock.get(t, 0) < n for t, n in first.items()):
            found.append(step.tid)
        return found
