"""Progress: when an execution turns fair, and when it is a livelock, a starvation or hung.

At the first bound the strategy loses its say: threads run round robin, and one that offers the
processor (a retry) waits until the others that can run have run. Whoever makes no progress for
another bound then cannot blame the schedule. If the state repeats and the fair scheduler cannot
leave the loop, the bound is not waited for (:mod:`mshv_async.sim.loops`).

A thread with a fatal signal pending owes more: it has to leave under every fair schedule, also
where all processors run at the same speed. So from the signal on the strategy may choose that the
tail begins at once, and while anybody is to leave each turn is one step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mshv_async.sim import verdicts
from mshv_async.sim.loops import LoopWatch
from mshv_async.sim.tape import Decision
from mshv_async.sim.thread import START

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.faults import Finding
    from mshv_async.sim.op import Op
    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Ledger, Thread

#: The label of the decision that a second phase begins.
SETTLE = "liveness.settle"
QUANTUM_STEPS = 64
#: So many turns a thread has had before it is blamed.
TURNS_MIN = 100
#: Each so many steps for an operation, it is noted where its thread stands.
SAMPLE_STEPS = 13
#: A thread that steps, but has few turns, is blamed after so many times the bound.
LONG_BOUND = 8


def limit_steps(rt: Runtime, thread: Thread) -> int:
    """Return how many steps the thread's operation may take."""
    return rt.bounds.progress_steps + rt.bounds.page_steps * thread.ledger.pages


def round_robin(rt: Runtime, enabled: list[Thread], cur: Thread | None) -> Thread:
    """Pick the next thread of the fair tail: whoever ran longest ago, for a turn of some steps.

    A thread that became able to run after a long wait goes at once, as the kernel's locks hand
    themselves over to a waiter that was passed too often; so what it waits for cannot be gone
    again each time a turn ends.
    """
    for thread in enabled:
        thread.waited = True
    oldest = min(enabled, key=lambda t: (t.ran_at, t.tid))
    lockstep = rt.bounds.lockstep or (rt.killed and any(t.ledger.leaving for t in rt.live))
    if cur is not None and cur in enabled and not cur.op.yields:
        if rt.loops is not None and (rt.quantum > 0 or not lockstep):
            rt.loops.chance_at = rt.steps  # another time the turn may have another length
        if rt.quantum > 0:
            rt.quantum -= 1
            if rt.steps - max(oldest.ran_at, rt.fair_since) <= QUANTUM_STEPS * len(rt.live):
                cur.ran_at = rt.steps
                return cur
    rt.turns += 1
    rt.quantum = 0 if lockstep else _turn_steps(rt.turns)
    if cur is oldest and len(enabled) > 1:
        oldest = min((t for t in enabled if t is not cur), key=lambda t: (t.ran_at, t.tid))
    oldest.ran_at = rt.steps
    oldest.turns += 1
    return oldest


def _turn_steps(turn: int) -> int:
    """Return the length of a turn: mostly few steps, sometimes a hundred, in no period.

    Short ones let a retry meet the others at different places; long ones let an operation through
    that must not be disturbed. Were they equal, a loop as long would look the same after each.
    """
    mixed = turn * 0x9E3779B1 & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 15) * 0x85EBCA77 & 0xFFFFFFFF
    mixed ^= mixed >> 13
    return (mixed >> 8) % (1 << (mixed & 7))


def sample_calls(rt: Runtime, thread: Thread) -> None:
    """Keep of a thread's calls those that it is in at every sample: they hold the loop."""
    if thread.ledger.own_steps % SAMPLE_STEPS:
        return
    calls = rt.stack_of(thread)[::-1]
    before = rt.lasting_calls.get(thread.tid, calls)
    same = [a for a, b in zip(before, calls, strict=False) if a == b]
    rt.lasting_calls[thread.tid] = before[: len(same)]


def own_bound(rt: Runtime, thread: Thread) -> None:
    """Judge a thread whose own steps since its last progress passed the bound."""
    ledger = thread.ledger
    limit = limit_steps(rt, thread)
    if not ledger.owes or ledger.own_steps <= limit or rt.mode == "realtime":
        return
    if not rt.fair:  # a timed run is fair already, and gets the same second chance
        _end_choices(rt)
        return
    if _alone(rt, thread):
        thread.turns += 1  # nobody else wants the processor: each step is as good as a turn
    if rt.timed or thread.turns >= TURNS_MIN or ledger.own_steps > LONG_BOUND * limit:
        _no_progress(rt, thread)


def _alone(rt: Runtime, thread: Thread) -> bool:
    return not any(t.enabled for t in rt.live if t is not thread)


def others_bound(rt: Runtime) -> None:
    """Judge threads that wait while the others step; called every few hundred steps.

    A thread that could begin an operation is owed that all the same: else one that runs for ever
    and comes first would never let the execution end. Nobody keeps a
    thread from running that sleeps until a time which has not come: it is owed something again
    from then on.
    """
    if rt.mode == "realtime":
        return
    for thread in rt.live:
        ledger = thread.ledger
        if not ledger.owes and not _wants_to_begin(thread):
            continue
        if rt.fair and _asleep(rt, thread):
            ledger.mark = rt.steps
        thread.waited = thread.waited or thread.enabled
        bound = limit_steps(rt, thread) * len(rt.live)
        if rt.steps - ledger.mark <= bound:
            continue
        if not rt.fair:
            _end_choices(rt)
            return
        had_turns = thread.turns >= TURNS_MIN or rt.timed or not ledger.own_steps
        if had_turns or rt.steps - ledger.mark > LONG_BOUND * bound:
            _no_progress(rt, thread)
            return


def _wants_to_begin(thread: Thread) -> bool:
    """Whether a thread that comes to an end could go on to its next operation, but is not let.

    Once it had its first step that is the strategy's doing: a fair scheduler passes nobody over.
    """
    if thread.daemon or thread.forever or thread.serves is not None:
        return False
    if thread.op is START:
        return True
    rt = thread.rt
    if rt.fair or rt.timed or thread.ledger.own_steps > rt.bounds.progress_steps:
        return False  # or it is let, and does something that is no operation
    return thread.enabled


def _asleep(rt: Runtime, thread: Thread) -> bool:
    """Whether the thread sleeps for a time that is not over yet."""
    if not thread.op.timed or (thread.interrupted and thread.op.interruptible):
        return False
    return thread.resumes_at_ns > rt.now_ns if rt.timed else not thread.timer_fired


def _no_progress(rt: Runtime, thread: Thread) -> None:
    """End the execution: fairly scheduled for a whole bound, the operation did not end."""
    ledger = thread.ledger
    loop = ledger.loop if ledger.loop is not None and ledger.loop[0] >= ledger.mark else None
    finding = _finding(rt, thread, rt.trace[rt.fair_since :])
    if rt.mode == "explore":
        told = verdicts.bounded(rt)
        if loop is not None:
            loop = (loop[0] + 1, loop[1] + 1)
            told = verdicts.repeating(rt, thread, loop, closed=False)
        finding = replace(finding, story=(*finding.story, told), loop=loop)
    _blame(rt, thread, finding, loop)


def look_for_loops(
    rt: Runtime, enabled: list[Thread], cur: Thread | None, *, suspended: bool
) -> None:
    """Look at a decision of the fair tail; end the execution if it is in a closed loop."""
    suspected, watch = rt.suspected, rt.loops
    if suspected is not None and suspected.released:
        rt.finish(None)
        return
    assert watch is not None
    found = watch.look(enabled, cur, suspended=suspended)
    if found is None:
        return
    thread = watch.blamed
    rt.lasting_calls = {**rt.lasting_calls, **watch.calls}
    finding = _finding(rt, thread, rt.trace[found[0] : found[1]])
    loop = (found[0] + 1, found[1] + 1)
    told = verdicts.repeating(rt, thread, loop, closed=True)
    _blame(rt, thread, replace(finding, story=(*finding.story, told), loop=loop), loop)


def _finding(rt: Runtime, thread: Thread, steps: Sequence[tuple[int, Op]]) -> Finding:
    """Word what a thread came to that made no progress in ``steps``.

    Livelock if its threads stepped; but if all they did was to stand at the same wait, be woken
    and wait again, what it waits for came and went: starvation. A thread that was to leave is
    unkillable in both cases.
    """
    op = thread.op
    serving = {t.tid for t in rt.live if t.ledger is thread.ledger}
    own = [o for tid, o in steps if tid in serving]
    moved = op.guard is None or any(o.label != op.label or o.obj is not op.obj for o in own)
    came = moved or bool(own) or thread.waited
    if thread.ledger.leaving and came:
        return verdicts.unkillable(rt, thread)
    if moved:
        return verdicts.livelock(rt, thread)
    return verdicts.starved(rt, thread, came=came)


@dataclass(frozen=True, slots=True)
class Suspected:
    """A finding of no progress, while it is tried whether the threads that go on for ever cause it.

    They end, and the execution goes on for at most another bound. ``done``: what the operation's
    ledger counted when they were told to end.
    """

    finding: Finding
    ledger: Ledger
    done: int
    adversaries: tuple[str, ...]

    @property
    def released(self) -> bool:
        """Whether the operation ended since."""
        return not self.ledger.owes or self.ledger.done != self.done

    def told(self, ending: Finding | None) -> Finding:
        """Return the finding with what was learnt; ``ending``: how the execution ended."""
        if self.released:
            return _with_line(self.finding, verdicts.adversary(self.adversaries))
        if ending is not None and ending.verdict not in verdicts.WAITING:
            return self.finding  # the trial was disturbed
        return _with_line(self.finding, verdicts.adversary(()))


def _with_line(finding: Finding, line: str) -> Finding:
    return replace(finding, story=(*finding.story, line))


def _blame(rt: Runtime, thread: Thread, finding: Finding, loop: tuple[int, int] | None) -> None:
    """End the execution with a finding, or first learn whether it needs an endless adversary."""
    if rt.suspected is not None:
        rt.finish(None)
        return
    if rt.mode != "explore":
        rt.finish(finding)
        return
    first, end = (loop[0] - 1, loop[1] - 1) if loop else (rt.fair_since, rt.steps)
    ran = {tid for tid, _ in rt.trace[first:end]}
    endless = (t for t in rt.live if t.tid in ran and t.forever and not t.fatal_pending)
    names = tuple(t.name for t in endless)
    if not names or rt.settled_at is not None:
        rt.finish(_with_line(finding, verdicts.adversary(())))
        return
    finding = verdicts.with_bystanders(rt, finding)
    rt.suspected = Suspected(finding, thread.ledger, thread.ledger.done, names)
    settle(rt)


def settle_by_choice(rt: Runtime, step: int) -> None:
    """Begin the second phase with a decision of the strategy, which the tape records.

    ``step``: the number, from 1, of the step that it is taken in.
    """
    decision = Decision(SETTLE, 1, 2)
    rt.tape.append(decision)
    rt.choices.append((step, decision))
    settle(rt)


def settle(rt: Runtime) -> None:
    """Begin the second phase: nothing fails and nobody interferes any more, all run fairly.

    Whoever goes on for ever, and whatever the host does of itself, ends its operation and begins
    no other. All that is under way then has to end within the bound.
    """
    rt.settled_at = rt.steps
    rt.closing = True
    turn_fair(rt)


def kill_sent(rt: Runtime) -> None:
    """Let the strategy choose whether the fair tail begins with the first fatal signal.

    Only where somebody goes on for ever: else whoever is killed has the processor in the end.
    """
    if rt.killed or rt.mode != "explore":
        return
    rt.killed = True
    adversary = any(t.forever and not t.fatal_pending for t in rt.live)
    if adversary and rt.recorder is not None:
        rt.recorder.told(("runtime", "killed"))
    if adversary and rt.choose("liveness.fair", 2):
        _end_choices(rt)


def _end_choices(rt: Runtime) -> None:
    """Take the choice of threads from the strategy; if it has a second phase, that begins now.

    What only an endless adversary could keep waiting is none of that check's findings.
    """
    has_second_phase = getattr(rt.strategy, "second_phase", None)
    if rt.mode == "explore" and has_second_phase is not None and has_second_phase():
        settle_by_choice(rt, rt.steps)
    else:
        turn_fair(rt)


def turn_fair(rt: Runtime) -> None:
    """Take the choice of threads from the strategy and begin a new bound for everybody."""
    if not rt.fair:
        rt.chosen_until = rt.steps
    rt.fair = True
    rt.fair_since = rt.steps
    rt.look_steps = 0  # at each step from now on
    for thread in rt.live:
        thread.ledger.own_steps = 0
        thread.ledger.mark = rt.steps
        thread.waited = False
        thread.ran_at = 0
        thread.turns = 0
    if rt.mode == "explore" and rt.watches_loops:
        rt.loops = LoopWatch(rt)
        rt.suspended = True  # a running thread does not show where it stands


def hung_task(rt: Runtime, now_ns: int) -> None:
    """Judge, in timed mode, threads blocked uninterruptibly for longer than the limit."""
    if now_ns <= rt.hung_due_ns:
        return
    limit_ns = rt.bounds.hung_task_ns
    due_ns = now_ns + limit_ns  # whoever blocks from now on is not due before
    for thread in rt.live:
        op = thread.op
        blocked = (
            thread.ready_ns < 0
            and op.guard is not None
            and not op.interruptible
            and not op.timed
            and not thread.daemon
        )
        if blocked and now_ns - thread.clock_ns > limit_ns:
            rt.report(verdicts.hung(rt, thread, now_ns - thread.clock_ns))
            return
        if blocked:
            due_ns = min(due_ns, thread.clock_ns + limit_ns)
    rt.hung_due_ns = due_ns
