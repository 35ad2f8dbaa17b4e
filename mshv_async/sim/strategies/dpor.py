"""dpor: each order of the steps that conflict, and no other; source sets and sleep sets.

Source-DPOR of Abdulla, Aronis, Jonsson and Sagonas (Optimal Dynamic Partial Order Reduction, POPL
2014; Source Sets, JACM 2017), after Flanagan and Godefroid (POPL 2005). Every execution is looked
through for races (:mod:`mshv_async.sim.precedence`); where the later step of a race could have
come first, the search comes back and lets a thread go that leads there. A thread whose turn at a
decision is explored sleeps in those that follow until a step conflicts with what it would do.

Departures from the papers:

- steps are whole: declared operation and all that was read and written up to the next point;
- a step with data choices is one step of its thread, all of whose values are explored before the
  thread sleeps; it sleeps with the footprints of all values together;
- operations with a guard need not be enabled for ever: see ``precedence``. What a thread waits for
  in vain when the execution ends races with what was done to it;
- a finding ends an execution before its time, so the last step races with what others would have
  done: one of them is let go before it; all, if it was a deadlock, which depends on where each
  thread stands;
- whether a sleeping thread went on where it alone could is only noticed at the next decision.

So there may be executions beyond one for each Mazurkiewicz trace: those that a sleep set cuts
(``blocked``), and few others. Executions must be played in order, each to its end. There is no
bound on preemptions: what a bound leaves out, a race in another execution may need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.accesses import Footprint, conflict
from mshv_async.sim.current import current_or_none
from mshv_async.sim.precedence import Precedence
from mshv_async.sim.strategies.base import CUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread

Sleepers = dict[int, Footprint]
"""By tid, what a thread would do whose turn was explored."""

TAIL_STEPS = 400
"""So many steps of a fair tail are looked through for races with what was chosen before. It is no
proof then, but leads to other prefixes."""


class _Turn:
    """A decision between threads on the path: before which step, and what is left to do."""

    __slots__ = ("able", "asleep", "footprint", "step", "taken", "todo")

    def __init__(self, step: int, able: tuple[int, ...], asleep: Sleepers, taken: int) -> None:
        self.step = step
        self.able = able
        self.asleep = asleep
        self.todo = {taken}
        self.taken = taken
        self.footprint: Footprint | None = None  # of the step taken, over its values

    def add(self, footprint: Footprint) -> None:
        """Take in one way that the step taken went."""
        if self.footprint is None:
            self.footprint = Footprint(footprint.tid, footprint.op)
            self.footprint.fatal = True
        self.footprint.join(footprint)
        self.footprint.ends |= footprint.ends
        self.footprint.fatal &= footprint.fatal

    def advance(self) -> bool:
        """Put the thread to sleep whose turn it was, and take the next that is to go."""
        assert self.footprint is not None
        self.asleep[self.taken] = self.footprint
        self.footprint = None
        for tid in self.able:
            if tid in self.todo and tid not in self.asleep:
                self.taken = tid
                return True
        return False

    def wants(self, threads: list[int]) -> None:
        """See to it that one of the threads goes here, or has gone: the last, if it can."""
        if not threads or any(tid in self.todo or tid in self.asleep for tid in threads):
            return
        able = [tid for tid in threads if tid in self.able]
        self.todo.update(able[-1:] or self.able)

    def spare(self) -> None:
        """See to it that somebody goes here, or has gone, who does not end the execution."""
        fatal = {tid for tid, footprint in self.asleep.items() if footprint.fatal}
        self.wants([tid for tid in self.able if tid != self.taken and tid not in fatal])


class _Value:
    """A data choice on the path, made in the step of this index."""

    __slots__ = ("bound", "step", "value")

    def __init__(self, step: int, bound: int) -> None:
        self.step = step
        self.bound = bound
        self.value = 0

    def advance(self) -> bool:
        """Take the next value."""
        self.value += 1
        return self.value < self.bound


class Dpor:
    """Enumerates Mazurkiewicz traces; ``blocked`` counts executions that a sleep set ended.

    ``exhausted`` is true once nothing is left.
    """

    exhaustive = True
    suspended = False
    records = True
    probes = 0

    def __init__(self) -> None:
        self._path: list[_Turn | _Value] = []
        self._depth = 0
        self._first = 0  # the first step that is not a repetition
        self._order = Precedence()
        self._rt: Runtime | None = None
        self._redundant = False
        self.prefix = 0
        self.blocked = 0
        self.exhausted = False

    def begin(self, execution: int) -> bool:
        """Learn from the execution before, and go back to the deepest decision left open."""
        if execution > 0:
            self._learn()
            while self._path and not self._path[-1].advance():
                self._path.pop()
            if not self._path:
                self.exhausted = True
                return False
            self._first = self._path[-1].step
        self._order.cut(self._first)
        self.prefix = max(len(self._path) - 1, 0)
        self._depth = 0
        self._rt = None
        self._redundant = False
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Follow the path; then go on with a thread that is not asleep, the current one first."""
        rt = self._enter(enabled[0].rt)
        tids = tuple(t.tid for t in enabled)
        if self._depth < len(self._path):
            turn = self._path[self._depth]
            assert isinstance(turn, _Turn), "an execution did not repeat its prefix"
            assert turn.able == tids, "an execution did not repeat its prefix"
            self._depth += 1
            return tids.index(turn.taken)
        asleep = self._sleepers(rt)
        awake = [t for t in enabled if t.tid not in asleep]
        if self._redundant or not awake:
            self.blocked += 1
            return CUT
        taken = awake[0]
        if current is not None and current in awake and not current.op.yields:
            taken = current
        self._path.append(_Turn(rt.steps, tids, asleep, taken.tid))
        self._depth += 1
        return tids.index(taken.tid)

    def value(self, label: str, bound: int) -> int:
        """Enumerate the values, the benign one first."""
        del label
        thread = current_or_none()
        if thread is not None:
            self._enter(thread.rt)
        if self._depth == len(self._path):
            step = self._rt.steps - 1 if self._rt is not None else 0
            self._path.append(_Value(step, bound))
        choice = self._path[self._depth]
        assert isinstance(choice, _Value), "an execution did not repeat its prefix"
        assert choice.bound == bound, "an execution did not repeat its prefix"
        self._depth += 1
        return choice.value

    def _enter(self, rt: Runtime) -> Runtime:
        if self._rt is None:
            self._rt = rt
            assert rt.recorder is not None
            rt.recorder.skip = self._first
        return rt

    def _sleepers(self, rt: Runtime) -> Sleepers:
        """Return who sleeps now: who slept at the last decision, less who was woken since."""
        turn = next((t for t in reversed(self._path) if isinstance(t, _Turn)), None)
        if turn is None:
            return {}
        assert rt.recorder is not None
        asleep = turn.asleep
        for index in range(turn.step, _chosen(rt)):
            step = rt.recorder.steps[index] or self._order.steps[index]
            if step.tid in asleep:
                self._redundant = True
            asleep = {t: f for t, f in asleep.items() if t != step.tid and not conflict(f, step)}
        return asleep if asleep is not turn.asleep else dict(asleep)

    # -- what an execution tells -----------------------------------------------------------

    def _learn(self) -> None:
        """Look for races among the new steps, and in what was left undone."""
        rt = self._rt
        if rt is None:
            return  # nobody ever had a choice
        recorder = rt.recorder
        assert recorder is not None
        last = min(_chosen(rt) + TAIL_STEPS, len(rt.trace)) - 1
        end = recorder.steps[last]
        if rt.finding is not None and end is not None and not rt.fair and not _ran_out(rt):
            end.fatal = True
            end.ends = rt.finding.verdict == "deadlock"
        turns = {t.step: t for t in self._path if isinstance(t, _Turn)}
        order = self._order
        for index in range(self._first, last + 1):
            step = recorder.steps[index]
            assert step is not None
            parent = recorder.parents.get(step.tid)
            turn = turns.get(index)
            able = frozenset(turn.able) if turn is not None else frozenset((step.tid,))
            rivals, clock = order.append(step, parent, able)
            if turn is not None:
                turn.add(step)
            for i in order.races(step, index, rivals, parent):
                if i in turns:
                    turns[i].wants(order.initials(i, step, index, clock))
        if not rt.cut and not rt.fair:
            self._look_at_the_end(rt, turns)
        if not self._redundant and rt.cut is None:
            self._sleepers(rt)
            self.blocked += self._redundant

    def _look_at_the_end(self, rt: Runtime, turns: dict[int, _Turn]) -> None:
        """See what would have raced had the execution gone on."""
        recorder, order = rt.recorder, self._order
        assert recorder is not None
        last = len(order) - 1
        cut_short = order.steps[last].fatal
        if cut_short and last in turns:
            if order.steps[last].ends:
                turns[last].todo.update(turns[last].able)
            else:
                turns[last].spare()
        for step, able in recorder.pending:
            if able and cut_short:
                continue
            parent = recorder.parents.get(step.tid)
            rivals, clock = order.placed(step, parent)
            for i in order.races(step, last + 1, rivals, parent):
                if i in turns:
                    turns[i].wants(order.initials(i, step, last + 1, clock))


def _chosen(rt: Runtime) -> int:
    """Return how many steps there were before the strategy lost its say."""
    return rt.fair_since if rt.fair else len(rt.trace)


def _ran_out(rt: Runtime) -> bool:
    """Say whether nothing was left that keeps an execution from ending."""
    assert rt.recorder is not None
    return not any(
        able and not (rt.closing and step.op.label in {"thread.start", "timer.fire"})
        for step, able in rt.recorder.pending
    )
