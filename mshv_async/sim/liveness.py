"""Progress: when an execution turns fair, and when it is a livelock, a starvation or hung.

At the first bound the strategy loses its say: threads run round robin, and one that offers the
processor (a retry) waits until the others that can run have run. Whoever makes no progress for
another bound then cannot blame the schedule.

A thread with a fatal signal pending owes more: it has to leave under every fair schedule, also
where all processors run at the same speed. So from the signal on the strategy may choose that the
tail begins at once, and while anybody is to leave each turn is one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim import verdicts
from mshv_async.sim.thread import START

if TYPE_CHECKING:
    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread

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
    if cur is not None and cur in enabled and not cur.op.yields and rt.quantum > 0:
        rt.quantum -= 1
        if rt.steps - max(oldest.ran_at, rt.fair_since) <= QUANTUM_STEPS * len(rt.live):
            cur.ran_at = rt.steps
            return cur
    rt.turns += 1
    leaving = rt.killed and any(t.ledger.leaving for t in rt.live)
    rt.quantum = 0 if leaving else _turn_steps(rt.turns)
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
        turn_fair(rt)
        return
    if _alone(rt, thread):
        thread.turns += 1  # nobody else wants the processor: each step is as good as a turn
    if rt.timed or thread.turns >= TURNS_MIN or ledger.own_steps > LONG_BOUND * limit:
        _no_progress(rt, thread)


def _alone(rt: Runtime, thread: Thread) -> bool:
    return not any(t.enabled for t in rt.live if t is not thread)


def others_bound(rt: Runtime) -> None:
    """Judge threads that wait while the others step; called every few hundred steps.

    A thread that was not let begin has no operation yet, but is owed its first step all the same:
    else one that runs for ever and comes first would never let the execution end. Nobody keeps a
    thread from running that sleeps until a time which has not come: it is owed something again
    from then on.
    """
    if rt.mode == "realtime":
        return
    for thread in rt.live:
        ledger = thread.ledger
        unborn = thread.op is START and not thread.daemon and not thread.forever
        if not ledger.owes and not unborn:
            continue
        if rt.fair and _asleep(rt, thread):
            ledger.mark = rt.steps
        thread.waited = thread.waited or thread.enabled
        bound = limit_steps(rt, thread) * len(rt.live)
        if rt.steps - ledger.mark <= bound:
            continue
        if not rt.fair:
            turn_fair(rt)
            return
        had_turns = thread.turns >= TURNS_MIN or rt.timed or not ledger.own_steps
        if had_turns or rt.steps - ledger.mark > LONG_BOUND * bound:
            _no_progress(rt, thread)
            return


def _asleep(rt: Runtime, thread: Thread) -> bool:
    """Whether the thread sleeps for a time that is not over yet."""
    if not thread.op.timed or (thread.interrupted and thread.op.interruptible):
        return False
    return thread.resumes_at_ns > rt.now_ns if rt.timed else not thread.timer_fired


def _no_progress(rt: Runtime, thread: Thread) -> None:
    """End the execution: fairly scheduled for a whole bound, the operation did not end.

    Livelock if its threads stepped; but if all they did was to stand at the same wait, be woken
    and wait again, what it waits for came and went: starvation. A thread that was to leave is
    unkillable in both cases.
    """
    op = thread.op
    serving = {t.tid for t in rt.live if t.ledger is thread.ledger}
    steps = [o for tid, o in rt.trace[rt.fair_since :] if tid in serving]
    moved = op.guard is None or any(o.label != op.label or o.obj is not op.obj for o in steps)
    came = moved or bool(steps) or thread.waited
    if thread.ledger.leaving and came:
        rt.finish(verdicts.unkillable(rt, thread))
    elif moved:
        rt.finish(verdicts.livelock(rt, thread))
    else:
        rt.finish(verdicts.starved(rt, thread, came=came))


def kill_sent(rt: Runtime) -> None:
    """Let the strategy choose whether the fair tail begins with the first fatal signal.

    Only where somebody goes on for ever: else whoever is killed has the processor in the end.
    """
    if rt.killed or rt.mode != "explore":
        return
    rt.killed = True
    adversary = any(t.forever and not t.fatal_pending for t in rt.live)
    if adversary and rt.choose("liveness.fair", 2):
        turn_fair(rt)


def turn_fair(rt: Runtime) -> None:
    """Take the choice of threads from the strategy and begin a new bound for everybody."""
    rt.fair = True
    rt.fair_since = rt.steps
    rt.look_steps = 0  # at each step from now on
    for thread in rt.live:
        thread.ledger.own_steps = 0
        thread.ledger.mark = rt.steps
        thread.waited = False
        thread.ran_at = 0
        thread.turns = 0


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
