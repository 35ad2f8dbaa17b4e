"""Real-time mode: the same threads on the stock asyncio loop, whose own order decides.

Nothing is recorded on a tape and nothing can be replayed; it shows that the code above the
runtime is honest asyncio code, and runs scenarios at the machine's pace.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mshv_async.sim import verdicts, waitfor
from mshv_async.sim.costs import DEFAULT_NS
from mshv_async.sim.faults import SimulationEnded
from mshv_async.sim.op import SLEEP, Op
from mshv_async.sim.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.sim.thread import Thread


REAL_STEP_NS = 20_000
"""About what a step takes here, or less. Sleeps are stretched by as much as a step takes longer
than in virtual time, where an access of the guest is the measure: else whoever sleeps a little and
works a little would hardly leave the others time to work. On a busy machine steps take longer, so
what they take is measured as they go."""


class RealtimeRuntime(Runtime):
    """A runtime whose scheduler is asyncio's ready queue; virtual sleeps are real ones, stretched.

    A thread whose guard does not hold is parked; after each step those that became possible are
    queued again in the order in which they came.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, mode="realtime", **kwargs)
        self._blocked: list[Thread] = []
        self._queued = 0
        self._alarms: dict[int, asyncio.TimerHandle] = {}  # of those asleep, by tid
        self._epoch_s = 0.0
        self._virtual_step_ns = max(self.costs.ns("guest"), DEFAULT_NS)
        self._busy_ns = 0  # in steps that another followed at once
        self._busy_steps = 0
        self._since_ns: int | None = None

    def begin(self, loop: Any, done: asyncio.Future[None], seat: Callable[[Thread], None]) -> None:
        """Start the execution: queue every thread."""
        self.loop, self.done = loop, done
        self._epoch_s = loop.time()

        def seat_and_queue(thread: Thread) -> None:
            seat(thread)
            self._queue(thread)

        self._seat = seat_and_queue
        for thread in list(self.live):
            seat_and_queue(thread)

    def _queue(self, thread: Thread) -> None:
        assert self.loop is not None
        self._queued += 1
        self.loop.call_soon(self._settle, thread)

    def _settle(self, thread: Thread) -> None:
        self._queued -= 1
        if self.ended or thread.finished:
            return
        assert thread.parker is not None
        if thread.parker.wake is None:  # its task has not reached its first point yet
            self._queue(thread)
        elif thread.enabled:
            self._go(thread)
        else:
            self._blocked.append(thread)
            waitfor.check_cycle(self, thread)
            self._check_idle()

    def _go(self, thread: Thread) -> None:
        assert self.loop is not None
        assert thread.parker is not None
        self.now_ns = thread.clock_ns = int((self.loop.time() - self._epoch_s) * 1e9)
        if self._since_ns is not None:
            self._busy_ns += self.now_ns - self._since_ns
            self._busy_steps += 1
        self.running = thread
        self.trace.append((thread.tid, thread.op))
        self.steps += 1
        if self.steps > self.bounds.max_steps:
            self.cut = "max_steps"
            self.finish(None)
            return
        self.clock_trace.append(self.now_ns)
        thread.parker.resume()
        self._rescan()
        self._since_ns = self.now_ns if self._queued else None

    def _rescan(self) -> None:
        still = []
        for thread in self._blocked:
            if not self.ended and thread.enabled:
                self._queue(thread)
            else:
                still.append(thread)
        self._blocked = still
        self._check_idle()

    def _check_idle(self) -> None:
        if self.ended or self._queued or self._alarms:
            return
        waiting = [t for t in self.live if not t.daemon]
        if waiting:
            waitfor.deadlock(self, waiting)
        else:
            self.finish(None)

    def arrive(self, thread: Thread, op: Op) -> bool:
        """Declare the thread's next operation; it always parks, asyncio picks who goes on."""
        if self.ended:
            raise SimulationEnded
        if op.kind is SLEEP and thread.atomic:
            verdicts.sleep_in_atomic(self, thread, op)
        thread.op = op
        if self.pending or self.later:
            self._step_ended(thread)
        self._queue(thread)
        return True

    def _next(self, cur: Thread | None) -> Thread | None:
        """Let the ready queue go on by itself after a thread finished."""
        del cur
        if all(t.daemon for t in self.live) and not self._queued:
            self.finish(None)
        return None

    def arm_timer(self, thread: Thread, ns: int) -> None:
        """Sleep in real time, stretched."""
        assert self.loop is not None
        thread.timer_fired = False
        step_ns = max(REAL_STEP_NS, self._busy_ns / max(self._busy_steps, 1))
        self._alarms[thread.tid] = self.loop.call_later(
            ns * step_ns / self._virtual_step_ns / 1e9, self._awake, thread
        )

    def disarm_timer(self, thread: Thread) -> None:
        """Forget the thread's timer; after the sender's step it is looked at with those blocked."""
        thread.timer_fired = False
        alarm = self._alarms.pop(thread.tid, None)
        if alarm is not None:
            alarm.cancel()

    def _awake(self, thread: Thread) -> None:
        del self._alarms[thread.tid]
        thread.timer_fired = True
        if not self.ended:
            self._rescan()
