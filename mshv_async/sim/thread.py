"""Threads: whatever is scheduled, with its pending operation, locks held and signals."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any

from mshv_async.sim.accesses import CLOSING, READ
from mshv_async.sim.current import current
from mshv_async.sim.faults import SimulationEnded
from mshv_async.sim.op import INTERRUPTIBLE, Kind, Op

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

    from mshv_async.sim.runtime import Runtime

START = Op("thread.start")


class Parker:
    """Where one asyncio task waits to be chosen; a future that is woken without a callback queue.

    It follows asyncio's future protocol, so any task, anyio's included, can await it: the task
    hands over its wake-up call, and the loop makes that call when the thread is picked.
    """

    __slots__ = ("_asyncio_future_blocking", "_loop", "cancelled", "context", "dead", "wake")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self.wake: Callable[[Any], None] | None = None
        self.context: Context | None = None
        self.dead = False
        self.cancelled = False

    def get_loop(self) -> Any:
        """Return the loop that the waiting task runs on."""
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Any], None], *, context: Context | None = None
    ) -> None:
        """Keep the waiting task's wake-up call."""
        self.wake = callback
        self.context = context

    def result(self) -> None:
        """Go on, or unwind when the execution is over."""
        if self.dead:
            raise SimulationEnded
        if self.cancelled:
            self.cancelled = False
            raise asyncio.CancelledError

    def resume(self) -> None:
        """Run the waiting task until it waits again. Called by the loop only."""
        wake, context = self.wake, self.context
        if wake is None or context is None:
            return  # a cancellation came first
        self.wake = None
        context.run(wake, self)

    def cancel(self, msg: Any = None) -> bool:
        """Wake the waiting task with its cancellation, as a future would."""
        del msg
        if self.wake is None:
            return False
        self.cancelled = True
        self._loop.call_soon(self._wake_cancelled)
        return True

    def _wake_cancelled(self) -> None:
        if self.wake is not None and self.cancelled:
            self.resume()


@types.coroutine
def park(parker: Parker) -> Generator[Parker, None, None]:
    """Wait until the loop resumes the parker."""
    parker._asyncio_future_blocking = True
    yield parker


class Ledger:
    """Progress owed for one program; shared by the threads that work for it.

    Counts are scheduler steps. ``pages``: size of the operation under way, which widens the bound.
    ``leaving``: a fatal signal came; what is owed from then on is the thread's end. ``done``: how
    many operations were finished. ``loop``: steps of the fair tail (the first, the one after) that
    could be repeated for ever without progress.
    """

    __slots__ = ("done", "leaving", "loop", "mark", "owes", "own_steps", "pages")

    def __init__(self) -> None:
        self.done = 0
        self.loop: tuple[int, int] | None = None
        self.leaving = False
        self.owes = False
        self.own_steps = 0
        self.mark = 0
        self.pages = 0


class Thread:
    """One schedulable thread of a runtime."""

    __slots__ = (
        "asleep",
        "body",
        "chain",
        "clock_ns",
        "coro",
        "daemon",
        "fatal_pending",
        "finished",
        "first",
        "forever",
        "held",
        "irqs_off",
        "kind",
        "ledger",
        "mm",
        "name",
        "nonblock_depth",
        "op",
        "parker",
        "ran_at",
        "ready_ns",
        "resumes_at_ns",
        "rt",
        "serves",
        "signal_pending",
        "spins",
        "tid",
        "timer_fired",
        "turns",
        "waited",
        "woken",
    )

    def __init__(
        self, rt: Runtime, tid: int, name: str, body: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        self.rt = rt
        self.tid = tid
        self.name = name
        self.body = body
        self.coro: Coroutine[Any, Any, Any] | None = None
        self.parker: Parker | None = None
        self.op: Op = START
        self.first = False  # the operation was declared at creation and is not yet arrived at
        self.asleep = False  # idle, and so not in the runtime's list of live threads
        self.kind = ""
        self.daemon = False
        self.forever = False
        self.finished = False
        self.held: list[Any] = []
        self.spins = 0
        self.irqs_off = 0
        self.nonblock_depth = 0
        self.signal_pending = False
        self.fatal_pending = False
        self.mm: Any = None
        self.ledger = Ledger()
        self.serves: Thread | None = None  # whose work it does
        self.chain = name  # of the thread that it works for in the end; its own, if for nobody
        self.woken = False
        self.waited = False
        self.ran_at = 0
        self.turns = 0
        self.timer_fired = False
        self.clock_ns = 0
        self.ready_ns = -1
        self.resumes_at_ns = 0

    def work_for(self, thread: Thread) -> None:
        """Do that thread's work from now on: its progress, its chain."""
        self.serves = thread
        self.ledger = thread.ledger
        for other in self.rt.all_threads:
            end = other
            while end.serves is not None:
                end = end.serves
            other.chain = end.name

    def __repr__(self) -> str:
        return f"<thread {self.name} at {self.op.label}>"

    @property
    def atomic(self) -> bool:
        """Whether sleeping is illegal now."""
        return bool(self.spins or self.irqs_off or self.nonblock_depth)

    @property
    def enabled(self) -> bool:
        """Whether the pending operation can happen now."""
        op = self.op
        return op.guard is None or (op.interruptible and self.interrupted) or op.guard(self)

    @property
    def interrupted(self) -> bool:
        """Whether a pending signal ends the wait: a killable one only if it is fatal."""
        return self.interrupted_in(self.op.wait)

    def interrupted_in(self, wait: str) -> bool:
        """Whether a pending signal ends a wait that signals can end."""
        return self.signal_pending and (self.fatal_pending or wait == INTERRUPTIBLE)

    def signal(self) -> None:
        """Make a signal pending that does not kill; interruptible waits end with -EINTR."""
        self.signal_pending = True
        self._wake_sleeper()

    def take_signal(self) -> None:
        """Handle the pending signal on the way back to user space; a fatal one stays."""
        self.signal_pending = self.fatal_pending

    def signal_fatal(self) -> None:
        """Make a fatal signal pending; killable and interruptible waits end with -EINTR.

        From now on the thread owes its end, whatever else it does.
        """
        if self.fatal_pending:
            if self.rt.recorder is not None:
                self.rt.recorder.told(("thread", self.name), READ)
            return
        self.signal_pending = True
        self.fatal_pending = True
        self._wake_sleeper()
        if self.forever and self.rt.recorder is not None:
            self.rt.recorder.told(CLOSING)  # it counts as one that comes to an end
        if not self.finished and not self.daemon:
            self.owes_progress()
            self.ledger.leaving = True
            self.rt.kill_sent()

    def _wake_sleeper(self) -> None:
        self.rt.told(("thread", self.name))
        if self.op.timed and self.op.interruptible and self.interrupted:
            self.rt.disarm_timer(self)

    def owes_progress(self, pages: int = 0) -> None:
        """Start an operation that must finish; ``pages`` widens its bound."""
        ledger = self.ledger
        if ledger.leaving:
            return
        ledger.owes = True
        ledger.pages = pages
        ledger.own_steps = 0
        ledger.mark = self.rt.steps

    def progress(self) -> None:
        """Report that the thread's program operation finished."""
        ledger = self.ledger
        if ledger.leaving:
            return
        ledger.done += 1
        ledger.owes = False
        ledger.own_steps = 0
        ledger.pages = 0
        ledger.mark = self.rt.steps


async def do(op: Op) -> bool:
    """Declare an operation and return when it is this thread's turn and the guard holds.

    This is *the* scheduling point. False: a killable or interruptible wait was ended by a signal.
    A thread of kind SLEEP in atomic context ends the execution with ``sleep-in-atomic``.
    """
    thread = current()
    if thread.rt.arrive(thread, op):
        await park(thread.parker)  # type: ignore[arg-type]
    if not op.interruptible or not thread.interrupted:
        return True
    return op.guard is None or op.guard(thread)


async def point(
    label: str,
    obj: Any = None,
    lo: int = 0,
    hi: int = 0,
    write: bool = True,
    kind: Kind = Kind.PREEMPT,
) -> None:
    """Stand at a scheduling point whose operation is always possible."""
    thread = current()
    if thread.rt.arrive(thread, Op(label, obj, lo, hi, write, kind)):
        await park(thread.parker)  # type: ignore[arg-type]


async def step(label: str, obj: Any = None, write: bool = False) -> None:
    """Let other threads look between two plain statements of the modelled C."""
    thread = current()
    if thread.rt.arrive(thread, Op(label, obj, 0, 0, write)):
        await park(thread.parker)  # type: ignore[arg-type]


_RESCHED = Op("cond_resched", write=False, kind=Kind.SLEEP, yields=True)


async def cond_resched() -> None:
    """Offer the processor to others, as the kernel's function of that name."""
    thread = current()
    if thread.rt.arrive(thread, _RESCHED):
        await park(thread.parker)  # type: ignore[arg-type]
