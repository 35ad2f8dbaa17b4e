"""Loops of the fair tail: a state that comes again, so that what led back to it can go on for ever.

An execution without end that violates progress shows, if its states are finitely many, as a lasso:
a path to a loop of states. That is how model checkers of linear time logic report it; with fair
schedules it was brought to stateless search by Musuvathi and Qadeer (Fair Stateless Model Checking,
PLDI 2008), who wait for an execution that is suspiciously long. Here the key of the whole state
(:mod:`mshv_async.sim.statekey`) tells that it is endless.

Let the state before step i and the one before step j be equal, and let all threads that are enabled
somewhere between run there. Then the steps between can be repeated for ever, and that is a strongly
fair schedule: nobody who is enabled again and again is passed over for ever. If a thread owes
progress all the while and makes none, it has a fair schedule under which it never makes any.

Such a loop is *closed* if the fair scheduler cannot leave it. Its state: who ran how long ago, and
how long the present turn is. The former is compared as well; the latter is in no period, so a
decision that asked for it (:func:`mshv_async.sim.liveness.round_robin` notes it) opens the loop:
the next time round, it may come out differently. A closed loop is what happens, and ends the
execution. An open one only could happen: beside a thread that takes a lock for ever, every
try-lock has one, and gets the lock all the same as soon as the speeds vary. So an open loop is no
verdict; it is kept, and shown if the bound of steps passes without progress.

A key costs as much as ten steps. It is taken at an anchor only: when one thread arrives at one
operation, the first that it comes to twice, chosen anew after 64, 128, 256, … steps (as Brent's
cycle finder moves its mark, BIT 20, 1980) in case that was before the loop. That a closed loop is
one is tested: it runs a second time, and must take the same steps to the same key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mshv_async.sim.canonical import HiddenState
from mshv_async.sim.statekey import key_of, state_text

if TYPE_CHECKING:
    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread

#: Epochs double from here: each has an anchor of its own.
EPOCH_STEPS = 64
#: So many keys are taken, of so many pieces of state, before it is left to the bound.
KEYS_MAX = 1_000
PIECES_MAX = 4_000_000
#: A state is compared with so many earlier ones of the same key.
VISITS_KEPT = 16

#: Steps are counted from 0: the state before step ``first`` is the one before step ``end``.
Loop = tuple[int, int]


class _Visit(NamedTuple):
    """When a key was met, and the order in which the fair scheduler would turn to the threads."""

    step: int
    order: tuple[int, ...]


class _Suspect(NamedTuple):
    """A closed loop that runs a second time."""

    thread: Thread
    loop: Loop
    key: bytes
    order: tuple[int, ...]


class LoopWatch:
    """Looks for loops in the fair tail of one execution.

    ``steps``: how many steps of the tail it looked at; ``why_not``: what ended that, else empty.
    """

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self.since = rt.steps
        self.why_not = ""
        self.chance_at = -1  # the last decision that asked how long a turn is
        self._enabled_at: dict[int, int] = {}
        self._ran_at: dict[int, int] = {}
        self._read = rt.steps
        self._visits: dict[bytes, list[_Visit]] = {}
        self._keys = 0
        self._pieces = 0
        self._anchor: tuple[int, str, int] | None = None
        self._arrived: set[tuple[int, str, int]] = set()
        self._epoch_ends = rt.steps + EPOCH_STEPS
        self._owing_stepped = True
        self._owing_steps = False
        self._suspect: _Suspect | None = None
        self._calls: dict[int, tuple[str, ...]] = {}

    @property
    def steps(self) -> int:
        """Return how many steps it has looked at."""
        return self._read - self.since

    def look(self, enabled: list[Thread], cur: Thread | None, *, suspended: bool) -> Loop | None:
        """Look at a decision; return a closed loop that has run twice.

        ``suspended``: no thread runs, so that the key can be taken.
        """
        now = self.rt.steps
        for thread in enabled:
            self._enabled_at[thread.tid] = now
        for step in range(self._read, now):
            self._ran_at[self.rt.trace[step][0]] = step
        self._read = now
        if not suspended or self.why_not:
            return None
        if self._suspect is not None:
            return self._again(self._suspect, cur)
        if cur is not None and self._at_anchor(cur):
            self._met(cur)
        return None

    @property
    def blamed(self) -> Thread:
        """Return the thread that makes no progress in the loop that was returned."""
        assert self._suspect is not None
        return self._suspect.thread

    @property
    def calls(self) -> dict[int, tuple[str, ...]]:
        """Return, by tid, the calls that the blamed threads never leave, outermost first."""
        return self._calls

    # -- where keys are taken --------------------------------------------------------------

    def _at_anchor(self, cur: Thread) -> bool:
        """Say whether the key is to be taken now that ``cur`` has stepped."""
        now = self.rt.steps
        if now >= self._epoch_ends:
            self._epoch_ends = now + 2 * (self._epoch_ends - self.since)
            self._anchor = None
            self._arrived.clear()
            self._owing_stepped, self._owing_steps = self._owing_steps, False
        owes = cur.ledger.owes
        self._owing_steps = self._owing_steps or owes
        if self._owing_stepped and not owes:
            return False  # the loop of one who owes is the one that matters, if there is any
        here = (cur.tid, cur.op.label, cur.op.lo)
        if self._anchor is None and here in self._arrived:
            self._anchor = here
        self._arrived.add(here)
        return here == self._anchor

    def _key(self) -> bytes:
        """Return the key of the state, without the fair scheduler's; empty: it cannot be taken."""
        rt = self.rt
        if self._keys >= KEYS_MAX or self._pieces >= PIECES_MAX:
            self.why_not = f"states were compared in {self.steps} steps only"
            return b""
        try:
            text = state_text(rt, rt.roots(), rt.opaque, current=False, turns=False)
        except HiddenState as error:
            self.why_not = f"states were not compared: {error}"
            return b""
        self._keys += 1
        self._pieces += len(text)
        return key_of(text)

    def _order(self, cur: Thread | None) -> tuple[int, ...]:
        live = [t for t in self.rt.all_threads if not t.finished]
        live.sort(key=lambda t: (t.ran_at, t.tid))
        return (cur.tid if cur is not None else -1, *(t.tid for t in live))

    # -- what a state that comes again means -----------------------------------------------

    def _met(self, cur: Thread) -> None:
        key = self._key()
        if not key:
            return
        visits = self._visits.setdefault(key, [])
        here = _Visit(self.rt.steps, self._order(cur))
        for visit in reversed(visits):
            if not self._all_ran(visit.step):
                continue
            waiting = self._waiting(visit.step)
            if not waiting:
                break  # and the longer loops hold even more progress
            loop = (visit.step, here.step)
            for thread in waiting:
                known = thread.ledger.loop
                if known is None or known[0] < thread.ledger.mark or length(known) > length(loop):
                    thread.ledger.loop = loop
            if visit.order == here.order and self.chance_at < visit.step:
                self._suspect = _Suspect(waiting[0], loop, key, here.order)
                self._calls = {}
                break
        visits.append(here)
        del visits[:-VISITS_KEPT]

    def _all_ran(self, first: int) -> bool:
        """Say whether all that were enabled since a step have run since: strong fairness."""
        ran_at = self._ran_at
        return all(
            at < first or ran_at.get(tid, -1) >= first for tid, at in self._enabled_at.items()
        )

    def _waiting(self, first: int) -> list[Thread]:
        """Return who owes progress since before a step; of each operation the busiest thread.

        First those that stepped most since: they cause the loop, the others may wait for them.
        """
        rt = self.rt
        counts: dict[int, int] = {}
        for tid, _ in rt.trace[first:]:
            counts[tid] = counts.get(tid, 0) + 1
        steps_of = {
            t.tid: sum(counts.get(o.tid, 0) for o in rt.live if o.ledger is t.ledger)
            for t in rt.live
        }
        busiest: list[Thread] = []
        for thread in sorted(
            rt.live, key=lambda t: (-steps_of[t.tid], -counts.get(t.tid, 0), t.tid)
        ):
            ledger = thread.ledger
            owed = ledger.owes and ledger.mark <= first
            if owed and not any(t.ledger is ledger for t in busiest):
                busiest.append(thread)
        return busiest

    def _again(self, suspect: _Suspect, cur: Thread | None) -> Loop | None:
        """Follow the second turn of a closed loop to its end; return the loop if it is the same."""
        rt = self.rt
        ledger = suspect.thread.ledger
        first, end = suspect.loop
        for thread in rt.live:
            if thread.ledger is ledger:
                calls = rt.stack_of(thread)[::-1]
                before = self._calls.get(thread.tid, calls)
                same = [a for a, b in zip(before, calls, strict=False) if a == b]
                self._calls[thread.tid] = before[: len(same)]
        if rt.steps < end + length(suspect.loop):
            return None
        old, new = rt.trace[first:end], rt.trace[end : rt.steps]
        same_steps = [(t, op.label) for t, op in old] == [(t, op.label) for t, op in new]
        same_end = self._order(cur) == suspect.order and self._key() == suspect.key
        if same_steps and same_end and ledger.owes and ledger.mark <= first:
            return suspect.loop
        # Something that the key does not hold decides here: so no key can be trusted.
        self.why_not = "a state that came again went on differently"
        return None


def length(loop: Loop) -> int:
    """Return how many steps a loop has."""
    return loop[1] - loop[0]
