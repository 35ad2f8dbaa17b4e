"""Progress: when an execution turns fair, and when it is a livelock, a starvation or hung.

At the first bound the strategy loses its say: threads run round robin, and one that offers the
processor (a retry) waits until the others that can run have run. Whoever makes no progress for
another bound then cannot blame the schedule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim import verdicts

if TYPE_CHECKING:
    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread

QUANTUM_STEPS = 64


def limit_steps(rt: Runtime, thread: Thread) -> int:
    """Return how many steps the thread's operation may take."""
    return rt.bounds.progress_steps + rt.bounds.page_steps * thread.ledger.pages


def round_robin(rt: Runtime, enabled: list[Thread], cur: Thread | None) -> Thread:
    """Pick the next thread of the fair tail."""
    if cur is not None and cur in enabled and not cur.op.yields and rt.quantum < QUANTUM_STEPS:
        rt.quantum += 1
        return cur
    rt.quantum = 0
    last = rt.running.tid if rt.running is not None else -1
    return min(enabled, key=lambda t: (t.tid <= last, t.tid))


def own_bound(rt: Runtime, thread: Thread) -> None:
    """Judge a thread whose own steps since its last progress passed the bound."""
    ledger = thread.ledger
    if not ledger.owes or ledger.own_steps <= limit_steps(rt, thread) or rt.mode == "realtime":
        return
    if not rt.fair and not rt.timed:
        _turn_fair(rt)
    elif rt.timed and not rt.fair:
        # Timed runs are fair already; give the same second chance.
        _turn_fair(rt)
    else:
        rt.finish(verdicts.livelock(rt, thread))


def others_bound(rt: Runtime) -> None:
    """Judge threads that wait while the others step; called every few hundred steps."""
    if rt.mode == "realtime":
        return
    for thread in rt.live:
        ledger = thread.ledger
        if not ledger.owes:
            continue
        thread.waited = thread.waited or thread.enabled
        if rt.steps - ledger.mark <= limit_steps(rt, thread) * len(rt.live):
            continue
        if not rt.fair:
            _turn_fair(rt)
            return
        if ledger.own_steps > QUANTUM_STEPS:
            rt.finish(verdicts.livelock(rt, thread))
        else:
            rt.finish(verdicts.starved(rt, thread, came=thread.waited))
        return


def _turn_fair(rt: Runtime) -> None:
    rt.fair = True
    rt.fair_since = rt.steps
    for thread in rt.live:
        thread.ledger.own_steps = 0
        thread.ledger.mark = rt.steps
        thread.waited = False


def hung_task(rt: Runtime, now_ns: int) -> None:
    """Judge, in timed mode, threads blocked uninterruptibly for longer than the limit."""
    if now_ns - rt.now_ns < rt.bounds.hung_task_ns and rt.steps & 0x3FF:
        return
    for thread in rt.live:
        op = thread.op
        blocked = (
            thread.ready_ns < 0
            and op.guard is not None
            and not op.interruptible
            and not op.timed
            and not thread.daemon
        )
        if blocked and now_ns - thread.clock_ns > rt.bounds.hung_task_ns:
            rt.report(verdicts.hung(rt, thread, now_ns - thread.clock_ns))
            return
