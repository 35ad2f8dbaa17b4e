"""One execution: its threads, who runs next, and what it came to."""

from __future__ import annotations

import heapq
import random
from bisect import insort
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from mshv_async.sim import liveness, verdicts, waitfor
from mshv_async.sim.accesses import CLOSING, READ, TIMERS, WRITE
from mshv_async.sim.bounds import Bounds
from mshv_async.sim.costs import CostTable
from mshv_async.sim.current import current_or_none
from mshv_async.sim.facts import Facts
from mshv_async.sim.faults import Finding, ModelFault, SimulationEnded
from mshv_async.sim.inject import Injection, Injector
from mshv_async.sim.lockorder import LockOrder
from mshv_async.sim.misfit import TapeMisfit
from mshv_async.sim.op import SLEEP, Op
from mshv_async.sim.stacks import traceback_stack
from mshv_async.sim.tape import THREAD, Decision, Tape
from mshv_async.sim.thread import START, Thread

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Coroutine, Iterable
    from types import TracebackType

    from mshv_async.sim.checkers import StepChecker
    from mshv_async.sim.loop import SimLoop
    from mshv_async.sim.loops import LoopWatch
    from mshv_async.sim.strategies import Strategy

_tid = attrgetter("tid")


SEEN = "seen"
"""Why an execution was cut that reached a state which the search had explored before."""


@dataclass(frozen=True, slots=True)
class Departure:
    """A tape does not fit the execution: at which step, and why."""

    step: int
    why: str


class Runtime(Facts):
    """Schedules the threads of one execution on a simulated loop.

    ``mode`` is ``explore`` (the strategy decides), ``timed`` (the thread with the earliest
    virtual clock runs) or ``realtime`` (see :mod:`mshv_async.sim.realtime`). ``keep`` records
    notes for a log. ``is_driver`` says which modules' functions a title should name.
    ``suspended``: decide only while every thread is suspended, so that checkers can look into
    all coroutines (a running one does not show where it stands); slower, the same executions.
    """

    # "__dict__" is for subclasses; the slots are what makes each step cheaper.
    __slots__ = (
        "__dict__", "_nobody_runs", "_seat", "_ties", "_timer_thread", "_timers", "all_threads",
        "bounds", "choices", "chosen_until", "clock_trace", "closing", "costs", "cut",
        "departure", "done", "ended", "error", "fair", "fair_since", "finding", "hung_due_ns",
        "injector", "killed", "lasting_calls", "live", "lock_order", "look_steps", "loop",
        "loops", "mode", "now_ns", "opaque", "panic_on_warn", "preempted_at", "quantum", "roots",
        "running", "settled_at", "strategy", "suspected", "suspended", "tape", "timed", "trace",
        "turns", "warnings", "world",
    )  # fmt: skip
    watches_loops = True

    def __init__(
        self,
        strategy: Strategy,
        *,
        mode: str = "explore",
        seed: int = 1,
        bounds: Bounds | None = None,
        costs: CostTable | None = None,
        injections: tuple[Injection, ...] = (),
        keep: bool = False,
        panic_on_warn: bool = False,
        is_driver: Callable[[str], bool] = lambda _: False,
        checkers: tuple[StepChecker, ...] = (),
        suspended: bool = False,
    ) -> None:
        super().__init__(is_driver, checkers, records=strategy.records, keep=keep)
        self.strategy = strategy
        self.mode = mode
        self.timed = mode == "timed"
        self.bounds = bounds or Bounds()
        self.look_steps = self.bounds.progress_steps  # own steps from which on bounds are looked at
        self.costs = costs or CostTable()
        self.injector = Injector(injections)
        self.panic_on_warn = panic_on_warn
        self.suspended = suspended or strategy.suspended
        self.live: list[Thread] = []
        self.all_threads: list[Thread] = []
        self.trace: list[tuple[int, Op]] = []
        self.clock_trace: list[int] = []
        self.tape: Tape = []
        self.preempted_at: list[int] = []
        self.choices: list[tuple[int, Decision]] = []
        self.now_ns = 0
        self.hung_due_ns = 0
        self.running: Thread | None = None
        self.killed = False  # a fatal signal was sent
        self.fair = False
        self.fair_since = 0
        self.quantum = 0
        self.turns = 0
        self.lasting_calls: dict[int, tuple[str, ...]] = {}  # by tid, outermost first
        self.loops: LoopWatch | None = None  # from the beginning of the fair tail
        self.suspected: liveness.Suspected | None = None
        self.chosen_until: int | None = None  # steps before the strategy lost its say
        self.settled_at: int | None = None  # the second phase: all interference has ended
        self._nobody_runs = False  # all threads are suspended
        self.closing = False
        self.ended = False
        self.finding: Finding | None = None
        self.warnings: dict[str, int] = {}
        self.error: BaseException | None = None
        self.departure: Departure | None = None
        self.cut: str | None = None
        self.lock_order = LockOrder()
        self.world: Any = None
        self.roots: Callable[[], Iterable[Any]] = tuple  # where the state of the world begins
        self.opaque: tuple[type, ...] = ()  # classes of what never changes in it
        self._ties = random.Random(seed) if self.timed else None
        self._timers: list[tuple[int, int, Thread]] = []
        self._timer_thread: Thread | None = None
        self.loop: SimLoop | None = None
        self.done: Future[None] | None = None
        self._seat: Callable[[Thread], None] | None = None

    # -- threads ---------------------------------------------------------------------------

    def spawn(
        self,
        name: str,
        body: Callable[[], Coroutine[Any, Any, Any]],
        *,
        daemon: bool = False,
        forever: bool = False,
        kind: str = "",
        for_thread: Thread | None = None,
        first: Op | None = None,
    ) -> Thread:
        """Create a thread, at set-up or while running; it starts when it is first chosen.

        ``daemon``: the execution does not wait for it. ``for_thread``: it works for that thread,
        so that its steps count towards that thread's progress. ``first``: the operation that its
        body begins with; without it, starting is a step of its own.
        """
        thread = Thread(self, len(self.all_threads), name, body)
        thread.daemon = daemon
        thread.forever = forever
        thread.kind = kind
        if first is not None:
            thread.op = first
            thread.first = True
        thread.ledger.mark = self.steps
        if for_thread is not None:
            thread.ledger = for_thread.ledger
            thread.serves = for_thread
            thread.chain = for_thread.chain
        running = current_or_none()
        thread.clock_ns = running.clock_ns if running is not None and running.rt is self else 0
        self.all_threads.append(thread)
        self.live.append(thread)
        for checker in self.checkers:
            checker.spawned(thread, running)
        if self._seat is not None:
            self._seat(thread)
        return thread

    @property
    def threads(self) -> list[Thread]:
        """All threads ever created, by tid."""
        return self.all_threads

    def begin(self, loop: SimLoop, done: Future[None], seat: Callable[[Thread], None]) -> None:
        """Start the execution: give every thread a task and pick the first to run."""
        self.loop, self.done, self._seat = loop, done, seat
        for thread in self.live:
            seat(thread)
        # With nobody to wait for, each that goes on for ever does one operation.
        self.closing = self._only_forever()
        try:
            first = self._next(None)
        except Exception as error:
            self.crashed(self.all_threads[0], error)
            return
        if first is not None:
            assert first.parker is not None
            loop.next_parker = first.parker

    def _only_forever(self) -> bool:
        """Whether nobody is left who comes to an end; who was killed does, whatever it ran.

        In the second phase all who go on for ever are told so.
        """
        return self.settled_at is not None or all(
            t.daemon or (t.forever and not t.fatal_pending) for t in self.live
        )

    def arrive(self, thread: Thread, op: Op) -> bool:
        """Declare the thread's next operation; True when it has to park until it is chosen."""
        if self.ended:
            raise SimulationEnded
        if op.kind is SLEEP and (thread.spins or thread.irqs_off or thread.nonblock_depth):
            verdicts.sleep_in_atomic(self, thread, op)
        if thread.first:
            return self._arrive_first(thread, op)
        thread.op = op
        if self.suspended:
            return self._decide_later(thread, thread)
        if self.pending or self.later or self.checkers:
            self._step_ended(thread)
        nxt = self._next(thread)
        if nxt is thread:
            return False
        if nxt is None:
            if self.ended:
                raise SimulationEnded
            return True  # a driven execution pauses
        assert self.loop is not None
        self.loop.next_parker = nxt.parker
        return True

    def _arrive_first(self, thread: Thread, op: Op) -> bool:
        assert op.line() == thread.op.line(), "the body does not begin as it was declared"
        thread.first = False
        thread.op = op
        return False

    def _put_to_sleep(self, thread: Thread) -> None:
        if not thread.asleep:
            thread.asleep = True
            thread.ready_ns = -1
            self.live.remove(thread)

    def rouse(self, thread: Thread) -> None:
        """Look at an idle thread again, because its guard holds now."""
        if thread.asleep:
            thread.asleep = False
            insort(self.live, thread, key=_tid)

    def _decide_later(self, cur: Thread | None, stepped: Thread) -> bool:
        assert self.loop is not None
        self.loop.next_parker = _Decider(self, cur, stepped)
        return True

    def decide_suspended(self, cur: Thread | None, stepped: Thread) -> None:
        """Decide and resume, called by the loop while every thread is suspended."""
        self._nobody_runs = True
        try:
            if self.pending or self.later or self.checkers:
                self._step_ended(stepped)
            nxt = self._next(cur)
        except SimulationEnded:
            return
        except Exception as error:
            self.crashed(stepped, error)
            return
        finally:
            self._nobody_runs = False
        if nxt is not None:
            assert nxt.parker is not None
            nxt.parker.resume()

    def _next(self, cur: Thread | None) -> Thread | None:  # noqa: C901, PLR0911, PLR0912 - flat
        """Choose who runs the next step, record it, and return it; None: it is over."""
        while True:
            enabled = [
                t
                for t in self.live
                if (g := t.op.guard) is None or g(t) or (t.op.interruptible and t.interrupted)
            ]
            if cur is not None and cur.op.guard is not None and cur not in enabled:
                if cur.op.idle and cur.daemon:
                    self._put_to_sleep(cur)
                elif cur.op.holders is not None:
                    waitfor.check_cycle(self, cur)
                    if self.ended:
                        return None
            if not enabled or (self.closing and self._drained(enabled)):
                self._nothing_left(enabled)
                return None
            if self.loops is not None:
                liveness.look_for_loops(self, enabled, cur, suspended=self._nobody_runs)
                if self.ended:
                    return None
            if len(enabled) == 1:
                nxt = enabled[0]
                if self.timed:
                    self._advance_clock(enabled)
            elif self.timed:
                nxt = self._advance_clock(enabled)
            elif self.fair:
                nxt = liveness.round_robin(self, enabled, cur)
            else:
                index = self.strategy.pick(enabled, cur)
                if index < 0:
                    self.cut = SEEN
                    self.finish(None)
                    return None
                nxt = enabled[index]
                self.tape.append((THREAD, index, len(enabled)))
                if cur is not None and nxt is not cur and cur in enabled and not cur.op.yields:
                    self.preempted_at.append(self.steps + 1)
            self.trace.append((nxt.tid, nxt.op))
            self.steps += 1
            nxt.ledger.own_steps += 1
            if self.checkers:
                self._tell_checkers(nxt)
            if nxt.ledger.own_steps > self.look_steps or not self.steps & 0xFF:
                self._look_at_bounds(nxt)
                if self.ended:
                    return None
            if nxt is not self._timer_thread:
                self.running = nxt
                return nxt
            self._fire_timer()
            if self.suspended and not self._nobody_runs:
                # The strategy asked for it at this decision: the next one finds all suspended.
                self._decide_later(cur, cur or nxt)
                return None

    def _tell_checkers(self, nxt: Thread) -> None:
        for checker in self.checkers:
            checker.step_begins(nxt, nxt.op)

    def _look_at_bounds(self, nxt: Thread) -> None:
        if self.fair:
            liveness.sample_calls(self, nxt)
        if nxt.ledger.own_steps > self.look_steps:
            liveness.own_bound(self, nxt)
        if not self.steps & 0xFF and not self.ended:
            liveness.others_bound(self)
            if self.steps > self.bounds.max_steps:
                self.cut = "max_steps"
                self.finish(None)

    def _advance_clock(self, enabled: list[Thread]) -> Thread:
        """Pick the thread that could go on first, and let its step take its time (timed mode)."""
        now = self.now_ns
        best, best_key = enabled[0], (1 << 62, 0)
        for t in self.live:
            if t not in enabled:
                t.ready_ns = -1
        tied = []
        for t in enabled:
            if t.ready_ns < 0:
                t.ready_ns = max(t.clock_ns, now, t.resumes_at_ns)
            key = (t.ready_ns, t.clock_ns)
            if key < best_key:
                best, best_key, tied = t, key, [t]
            elif key == best_key:
                tied.append(t)
        if len(tied) > 1 and self._ties is not None:
            best = tied[self._ties.randrange(len(tied))]
        liveness.hung_task(self, best.ready_ns)
        self.now_ns = best.ready_ns
        best.clock_ns = best.ready_ns + self.costs.ns(best.op.label)
        best.ready_ns = -1
        best.resumes_at_ns = 0
        self.clock_trace.append(self.now_ns)
        return best

    def _drained(self, enabled: list[Thread]) -> bool:
        return all(t.daemon for t in self.live) and all(
            t is self._timer_thread or t.op is START for t in enabled
        )

    def _nothing_left(self, enabled: list[Thread]) -> None:
        waiting = [t for t in self.live if not t.daemon]
        if waiting and not enabled:
            waitfor.deadlock(self, waiting)
        else:
            self.finish(None)

    def thread_finished(self, thread: Thread) -> None:
        """Note that a thread's body returned, and pick who goes on."""
        thread.finished = True
        if self.ended:
            return
        self.live.remove(thread)
        if thread.held:
            verdicts.left_holding(self, thread, thread.held, "exit")
        self.probe("thread.exit", thread)
        if thread.serves is None:
            thread.ledger.owes = False  # whoever still works for it has nothing left to finish
            thread.ledger.leaving = False
        self.closing = self._only_forever()
        self.told(CLOSING, "finish")
        if self.suspended:
            self._decide_later(None, thread)
            return
        try:
            if self.pending or self.later or self.checkers:
                self._step_ended(thread)
            nxt = self._next(None)
        except SimulationEnded:
            return
        if nxt is not None:
            assert self.loop is not None
            self.loop.next_parker = nxt.parker

    # -- decisions -------------------------------------------------------------------------

    def choose(self, label: str, bound: int) -> int:
        """Resolve a data choice: 0 … bound - 1, where 0 is the benign one."""
        if bound < 2:
            return 0
        if self.fair:
            return 0  # the tail is there to end, and the strategy has lost its say
        value = self.strategy.value(label, bound)
        self.tape.append((label, value, bound))
        self.choices.append((self.steps, Decision(label, value, bound)))
        return value

    def kill_sent(self) -> None:
        """Note that a fatal signal was sent."""
        self.told(("runtime", "killed"), READ if self.killed else WRITE)
        liveness.kill_sent(self)

    # -- time ------------------------------------------------------------------------------

    def arm_timer(self, thread: Thread, ns: int) -> None:
        """Make the thread's sleep end after ``ns`` virtual nanoseconds."""
        thread.timer_fired = False
        self._told_timers(thread)
        if self.timed:
            thread.timer_fired = True
            thread.resumes_at_ns = thread.clock_ns + ns
            return
        if self._timer_thread is None:
            self._timer_thread = Thread(self, len(self.all_threads), "timer", _no_body)
            self._timer_thread.daemon = True
            self._timer_thread.op = Op("timer.fire", guard=lambda _: bool(self._timers))
            self.all_threads.append(self._timer_thread)
            self.live.append(self._timer_thread)
        heapq.heappush(self._timers, (self.now_ns + ns, thread.tid, thread))

    def disarm_timer(self, thread: Thread) -> None:
        """Forget the thread's timer: a signal ended its sleep."""
        self._told_timers(thread)
        thread.timer_fired = False
        thread.resumes_at_ns = 0
        thread.ready_ns = -1
        self._timers = [timer for timer in self._timers if timer[2] is not thread]
        heapq.heapify(self._timers)

    def _fire_timer(self) -> None:
        due_ns, _, thread = heapq.heappop(self._timers)
        self.now_ns = max(self.now_ns, due_ns)
        thread.timer_fired = True
        self._told_timers(thread)
        if self.recorder is not None:
            self.recorder.fired(thread)

    def _told_timers(self, thread: Thread) -> None:
        self.told(TIMERS)
        self.told(("thread", thread.name))

    def pending_timers(self) -> list[tuple[int, str]]:
        """Return armed timers as (ns from now, thread name), earliest first."""
        return sorted((due - self.now_ns, t.name) for due, _, t in self._timers)

    # -- verdicts --------------------------------------------------------------------------

    def _step_ended(self, thread: Thread) -> None:
        if self.later:
            self._judge()
        for checker in self.checkers:
            checker.step_ended(thread)
        if self.pending:
            self.finish(_worst(self.pending))
            raise SimulationEnded

    def faulted(self, thread: Thread, fault: ModelFault, tb: TracebackType | None) -> None:
        """End the execution because modelled code faulted on this thread."""
        finding = verdicts.of_fault(self, thread, fault, traceback_stack(tb))
        self.finish(_worst([finding, *self.pending]))

    def crashed(self, thread: Thread, error: BaseException) -> None:
        """End the execution because the model itself is broken, or its tape departed."""
        if isinstance(error, TapeMisfit):
            self.departure = Departure(self.steps + error.next_step, str(error))
        elif self.error is None:
            error.add_note(f"in thread {thread.name} at step {self.steps} ({thread.op.label})")
            self.error = error
        self.finish(None)

    def finish(self, finding: Finding | None) -> None:
        """End the execution; the remaining threads are unwound."""
        if self.ended:
            return
        self.ended = True
        suspected = self.suspected
        if suspected is not None:
            finding, self.cut = suspected.told(finding), None
        elif finding is not None and self.settled_at is not None:
            finding = verdicts.in_second_phase(finding, self.settled_at)
        self.finding = finding
        if finding is None and self.error is None and self.departure is None and not self.cut:
            try:
                self.probe("world.end")
                self._judge()
            except Exception as error:  # a defect of a watcher must not leave threads parked
                error.add_note("while the end of the execution was judged")
                self.error = error
            if self.pending:
                self.finding = _worst(self.pending)
            elif self.noted:
                self.finding = _worst([*self.noted.values()])
        if self.finding is not None and suspected is None:
            self.finding = verdicts.with_bystanders(self, self.finding)
        if self.recorder is not None and not self.cut:
            self.recorder.ended(self.all_threads)
        assert self.loop is not None
        self.loop.next_parker = None
        self.loop.call_soon(self._reap)

    def _reap(self) -> None:
        for thread in self.all_threads:
            parker = thread.parker
            if parker is not None and parker.wake is not None and not thread.finished:
                parker.dead = True
                parker.resume()
        assert self.done is not None
        if not self.done.done():
            self.done.set_result(None)


def _worst(findings: list[Finding]) -> Finding:
    return min(findings, key=lambda f: verdicts.severity(f.verdict))


class _Decider:
    """Stands in for a parker: the loop resumes it to have the next decision taken."""

    __slots__ = ("cur", "rt", "stepped")

    def __init__(self, rt: Runtime, cur: Thread | None, stepped: Thread) -> None:
        self.rt = rt
        self.cur = cur
        self.stepped = stepped

    def resume(self) -> None:
        """Take the decision."""
        if not self.rt.ended:
            self.rt.decide_suspended(self.cur, self.stepped)


async def _no_body() -> None:
    """Do nothing: the timer has no code of its own."""
