"""stateful: every reachable state, depth first; a path ends where the state was seen before.

Explicit-state search by re-execution. At a decision between threads the key of the whole state is
taken (:mod:`mshv_async.sim.statekey`); what can follow from a state that was met before is not
explored again. Two reductions leave out orders that nothing could tell apart (Godefroid,
Partial-Order Methods for the Verification of Concurrent Systems, 1996):

- A thread whose next step conflicts with nothing that the others may still do goes first, alone,
  and no key is taken there (:mod:`mshv_async.sim.futures`: a persistent set of one). What others
  may still do is learned from executions, the first ones being samples; when something shows that
  an answer relied on not to happen, the search begins again, so that the last pass stands on what
  it itself has not contradicted.
- Sleep sets: after a thread was explored from a state, it need not go first in the branches that
  begin with the other threads, until one of them conflicts with it. A state that is met again
  with threads awake that slept the time before is explored for those, with asleep who slept both
  times (the book's section 5.3).

Both need a cycle to have a state of which all is explored: a thread that goes alone for ever is
caught by the bound on progress instead. A cycle of states is cut where it closes.

With a bound on preemptions neither reduction holds; what is left of the bound is part of the
state then, and so is who ran last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.accesses import Footprint, conflict
from mshv_async.sim.futures import Futures, stand_of
from mshv_async.sim.shared import Dormant
from mshv_async.sim.statekey import state_key
from mshv_async.sim.strategies.base import CUT
from mshv_async.sim.strategies.pct import Pct
from mshv_async.sim.strategies.pos import Pos
from mshv_async.sim.strategies.random_walk import RandomWalk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.accesses import Stand
    from mshv_async.sim.futures import Reliance
    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.strategies.base import Strategy
    from mshv_async.sim.thread import Thread

#: The search begins once so many samples in a row have taught nothing new,
LEARNING = 150
#: or there were so many in all.
LEARNING_MAX = 1_500
#: A broken pass goes on for so many executions at least, or a quarter of those that it had, as
#: there is more to learn.
PATIENCE = 100

Sleep = dict[int, Footprint]
"""Threads that need not go first, by tid, each with the step that it would take."""


class _Branch:
    """A decision on the path: the options, in order, of which that at ``position`` is taken.

    Of threads the options are tids, ``tids`` all that were enabled, ``sleep`` those asleep here,
    ``done`` the steps of options explored before, ``taken`` that of the present one, over all
    its data choices so far; ``step``: how many steps were behind; ``key``: the state's, if taken;
    ``reliance``: of the answer that the thread may go alone, if it does.
    """

    __slots__ = (
        "done", "key", "options", "position", "reliance", "sleep", "step", "taken", "tids",
    )  # fmt: skip

    def __init__(self, options: list[int], tids: tuple[int, ...], sleep: Sleep) -> None:
        self.options = options
        self.position = 0
        self.tids = tids
        self.sleep = sleep
        self.done: Sleep = {}
        self.taken: Footprint | None = None
        self.step = 0
        self.key: bytes | None = None
        self.reliance: Reliance | None = None


class Stateful:
    """Enumerates states. ``states`` counts those at which there was a choice.

    ``restarts``: how often the search began again because a thread touched something new;
    ``searched``: the executions of the last pass; ``cycles``: how often a state came again on the
    path that had led through it, so that there are schedules without end.
    """

    exhaustive = True
    suspended = True
    records = True
    probes = 0

    def __init__(self, preemptions: int | None = None) -> None:
        self._limit = preemptions
        self._path: list[_Branch] = []
        self._depth = 0
        self._fresh = 0  # depth from which on the execution leaves the path of the one before
        self._early = 0  # that of the decision between threads before it
        self._spent = 0
        self._patience = 0  # the executions that a broken pass ends at; 0: not broken
        self._seen: dict[bytes, frozenset[int] | int] = {}
        self._futures = Futures()
        self._steps: list[Footprint] = []
        self._ends: dict[int, Stand] = {}  # where threads stood that had not finished at a cut
        self._rt: Runtime | None = None
        self._key: bytes | None = None  # of the state that was decided in last
        self._reliance: Reliance | None = None  # of the answer that decided
        self._learners: tuple[Strategy, ...] = (Pct(1), Pos(1), RandomWalk(1))
        self._learner: Strategy | None = None
        self._learning = LEARNING
        self.prefix = 0
        self.restarts = 0
        self.searched = 0
        self.cycles = 0
        self.exhausted = False

    @property
    def states(self) -> int:
        """Return how many distinct states had a choice of threads."""
        return len(self._seen)

    # -- one execution after the other -----------------------------------------------------

    def begin(self, execution: int) -> bool:
        """Learn from the last execution, then go back to the deepest branch with an option left."""
        reduced = self._limit is None
        if reduced:
            self._learned()
        self._depth = self._spent = 0
        self._rt = None
        if self._futures.grown:
            self._futures.grown = False
            self._learning = min(execution + LEARNING, LEARNING_MAX)
        if reduced and not self.searched and execution < self._learning:
            self._learner = self._learners[execution % len(self._learners)]
            self._learner.begin(execution)
            self._fresh = 0
            return True
        if self._learner is not None:
            self._learner = None
            self._begin_pass()
        elif self._futures.broken and self.searched >= self._patience:
            self.restarts += 1
            self._begin_pass()
        elif self.searched and not self._next_option():
            if not self._futures.broken:
                self.exhausted = True
                return False
            self.restarts += 1
            self._begin_pass()
        self.searched += 1
        self.prefix = max(len(self._path) - 1, 0)
        turns = [n for n, branch in enumerate(self._path) if branch.tids]
        self._fresh = turns[-1] if turns else 0
        self._early = turns[-2] if len(turns) > 1 else 0
        return True

    def _begin_pass(self) -> None:
        self._futures.forget_answers()
        self._patience = 0
        self.searched = self.cycles = 0
        self._path = []
        self._seen = {}

    def _next_option(self) -> bool:
        path = self._path
        while path:
            branch = path[-1]
            if branch.position + 1 < len(branch.options):
                if branch.taken is not None:
                    branch.done[branch.options[branch.position]] = branch.taken
                    branch.taken = None
                branch.position += 1
                return True
            path.pop()
        return False

    def _learned(self) -> None:
        """Take over what the last execution did.

        If that breaks the pass, some more is played before the next: there is more to learn.
        """
        rt = self._rt
        if rt is None or rt.recorder is None:
            return
        recorded = rt.recorder.steps
        first = len(recorded)
        while first and recorded[first - 1] is not None:
            first -= 1
        self._steps[first:] = [step for step in recorded[first:] if step is not None]
        for branch in self._path[self._fresh :]:
            if branch.tids and branch.step < len(self._steps):
                step = self._steps[branch.step]
                if branch.reliance is not None:
                    self._futures.hold(step, branch.reliance)
                if branch.taken is None:
                    branch.taken = step
                else:
                    branch.taken.join(step)
        pending = rt.recorder.pending
        if rt.finding is not None and not rt.fair and any(able for _, able in pending):
            last = len(self._steps) - 1
            alone = any(b.step == last and b.reliance is not None for b in self._path[-1:])
            self._futures.ended(self._steps[last].stand, alone=alone)
        waiting = [step for step, _ in pending]
        self._futures.learn(self._steps, rt.recorder.parents, self._ends, waiting)
        if self._futures.broken and not self._patience:
            self._patience = self.searched + max(PATIENCE, self.searched // 4)

    # -- decisions -------------------------------------------------------------------------

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Follow the path; then go on from a new state."""
        rt = enabled[0].rt
        if self._rt is None:
            self._begun(rt)
        if self._learner is not None:
            return self._learner.pick(enabled, current)
        if self._depth < len(self._path):
            return self._follow(rt, enabled, current)
        return self._go_on(rt, enabled, current)

    def _begun(self, rt: Runtime) -> None:
        self._rt = rt
        self._ends = {}
        recorder = rt.recorder
        assert recorder is not None
        recorder.locate = stand_of
        recorder.on = self._learner is not None or not any(b.tids for b in self._path)
        # Suspended one decision before: else who is chosen there is not seen where it stands.
        rt.suspended = recorder.on or self._early <= self._depth

    def _follow(self, rt: Runtime, enabled: Sequence[Thread], current: Thread | None) -> int:
        branch = self._path[self._depth]
        tids = tuple(t.tid for t in enabled)
        assert branch.tids == tids, "an execution did not repeat its prefix"
        if self._depth >= self._early:
            rt.suspended = True
        if self._depth >= self._fresh and rt.recorder is not None:
            rt.recorder.on = True
        self._depth += 1
        branch.step = rt.steps
        index = tids.index(branch.options[branch.position])
        self._count(enabled, current, index)
        return index

    def _go_on(self, rt: Runtime, enabled: Sequence[Thread], current: Thread | None) -> int:
        tids = tuple(t.tid for t in enabled)
        self._key = self._reliance = None
        if self._limit is not None:
            options, sleep = self._bounded(rt, enabled, current, self._limit), {}
        else:
            asleep = self._asleep(rt)
            if asleep is None:
                return self._cut(rt)
            sleep = asleep
            options = self._reduced(rt, enabled, sleep)
        if not options:
            return self._cut(rt)
        branch = _Branch(options, tids, sleep)
        branch.step = rt.steps
        branch.key = self._key
        branch.reliance = self._reliance
        self._path.append(branch)
        self._depth += 1
        index = tids.index(options[0])
        self._count(enabled, current, index)
        return index

    def _cut(self, rt: Runtime) -> int:
        """End the execution: what follows from here was explored, or is elsewhere."""
        self._ends = {t.tid: stand_of(t) for t in rt.all_threads if not t.finished}
        return CUT

    def _count(self, enabled: Sequence[Thread], current: Thread | None, index: int) -> None:
        if current is None or current.op.yields or enabled[index] is current:
            return
        self._spent += current in enabled

    def _reduced(self, rt: Runtime, enabled: Sequence[Thread], sleep: Sleep) -> list[int]:
        """Return the threads to explore from here; none if all that follows was explored.

        Of a state met again ``sleep`` keeps who slept both times.
        """
        threads = [t for t in rt.all_threads if not t.finished]
        # Under other checkers kinds are not known: more conflicts, never fewer.
        objects = rt.instruments.by_name if isinstance(rt.instruments, Dormant) else {}
        answer = self._futures.alone(threads, enabled, objects)
        if answer is not None:
            index, self._reliance = answer
            tid = enabled[index].tid
            return [] if tid in sleep else [tid]
        self._key = key = state_key(rt, rt.roots(), rt.opaque, current=False)
        slept = self._seen.get(key)
        now = frozenset(sleep)
        if slept is None:
            self._seen[key] = now
            return [t.tid for t in enabled if t.tid not in sleep]
        assert isinstance(slept, frozenset)
        self.cycles += any(branch.key == key for branch in self._path)
        self._seen[key] = slept & now
        # Else each visit would count on the other for what neither explores.
        for tid in now - slept:
            del sleep[tid]
        # Awake now, but left out the time before.
        return [t.tid for t in enabled if t.tid in slept and t.tid not in now]

    def _asleep(self, rt: Runtime) -> Sleep | None:
        """Return who sleeps here; None if one of them ran meanwhile, because nobody else could."""
        if not self._path:
            return {}
        last = next((b for b in reversed(self._path) if b.tids), None)
        if last is None or rt.recorder is None:
            return {}
        sleep = {**last.sleep, **last.done}
        for step in rt.recorder.steps[last.step :]:
            assert step is not None
            if step.tid in sleep:
                return None
            for tid in [t for t, waiting in sleep.items() if conflict(waiting, step)]:
                del sleep[tid]
        return sleep

    def _bounded(
        self, rt: Runtime, enabled: Sequence[Thread], current: Thread | None, limit: int
    ) -> list[int]:
        self._key = key = state_key(rt, rt.roots(), rt.opaque, current=True)
        left = limit - self._spent
        known = self._seen.get(key, -1)
        assert isinstance(known, int)
        if known >= left:
            self.cycles += any(branch.key == key for branch in self._path)
            return []
        self._seen[key] = left
        options = [t.tid for t in enabled]
        if current is not None and not current.op.yields and current.tid in options:
            if left <= 0:
                return [current.tid]
            options.remove(current.tid)
            options.insert(0, current.tid)
        return options

    def value(self, label: str, bound: int) -> int:
        """Enumerate the values of a data choice, the benign one first."""
        if self._learner is not None:
            return self._learner.value(label, bound)
        if self._depth < len(self._path):
            branch = self._path[self._depth]
            assert len(branch.options) == bound, "an execution did not repeat its prefix"
        else:
            branch = _Branch(list(range(bound)), (), {})
            self._path.append(branch)
        self._depth += 1
        return branch.options[branch.position]
