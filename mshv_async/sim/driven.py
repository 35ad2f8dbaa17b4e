"""An execution that is driven from outside: a coroutine on the same loop calls into it.

Each call is a thread of its own. The caller's tasks are no threads: they run at once, whenever
something that they wait for has happened, and the next decision is taken when they have issued
all calls that they will. The execution pauses while nobody is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.sim import waitfor
from mshv_async.sim.faults import Finding, SimulationEnded
from mshv_async.sim.runtime import Runtime

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Coroutine

    from mshv_async.sim.loop import SimLoop
    from mshv_async.sim.thread import Thread

QUIET_TURNS = 100
"""So many turns of the loop the callers have for their next calls. They need a few; only anyio's
delivery of a cancellation keeps the loop busy for ever."""


class ExecutionEnded(Exception):
    """A call cannot return because the execution is over: with a finding, or cut short."""

    def __init__(self, finding: Finding | None, cut: str | None) -> None:
        super().__init__(finding.title if finding else f"the execution was ended: {cut or 'over'}")
        self.finding = finding
        self.cut = cut


class DrivenRuntime(Runtime):
    """A runtime whose threads are calls from outside, beside those that were spawned before.

    ``over``: no more calls come; then the execution ends when its threads have.
    """

    watches_loops = False  # what the callers hold is in no state key

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, mode="explore", **kwargs)
        self.over = False
        self._paused = True
        self._deciding = False
        self._patience = QUIET_TURNS
        self._calls: dict[int, Future[Any]] = {}
        self._results: dict[int, Any] = {}
        self._settled: list[Future[Any]] = []

    def begin(self, loop: SimLoop, done: Future[None], seat: Callable[[Thread], None]) -> None:
        """Get ready; the first call, or :meth:`go_on`, starts it."""
        self.loop, self.done, self._seat = loop, done, seat
        for thread in self.live:
            seat(thread)
        loop.on_idle = self._idle

    def enter(
        self, name: str, body: Callable[[], Coroutine[Any, Any, Any]], *, kind: str = ""
    ) -> tuple[Thread, Future[Any]]:
        """Let a call in as a thread; the future gets what ``body`` returns.

        It gets :class:`ExecutionEnded` if the execution ends before, or the error of a model
        that is broken.
        """
        assert self.loop is not None
        future: Future[Any] = self.loop.create_future()
        if self.ended:
            future.set_exception(self._failure())
            return self.all_threads[-1], future

        async def run() -> None:
            self._results[thread.tid] = await body()

        thread = self.spawn(name, run, kind=kind)
        self._calls[thread.tid] = future
        self.go_on()
        return thread, future

    def go_on(self) -> None:
        """Take decisions again if the execution pauses."""
        if not self._paused or self.ended:
            return
        self._paused = False
        if self.all_threads:
            self._decide_later(None, self.all_threads[-1])
        else:
            self.finish(None)

    def settled(self) -> Future[Any]:
        """Return a future that is done when nobody is waited for any more."""
        assert self.loop is not None
        future: Future[Any] = self.loop.create_future()
        self._settled.append(future)
        if self.ended:
            self._settle()
        else:
            self.go_on()
        return future

    def _settle(self) -> None:
        settled, self._settled = self._settled, []
        for future in settled:
            if not future.done():
                if self.ended:
                    future.set_exception(self._failure())
                else:
                    future.set_result(None)

    def no_more_calls(self) -> None:
        """Let the execution end when its threads have."""
        self.over = True
        self.closing = self._only_forever()
        self.go_on()

    def waited_for(self) -> list[Thread]:
        """Return the threads that somebody waits for: calls, and programs that come to an end."""
        return [t for t in self.live if not t.daemon and not t.forever]

    # -- decisions -------------------------------------------------------------------------

    def _only_forever(self) -> bool:
        return self.over and super()._only_forever()

    def _next(self, cur: Thread | None) -> Thread | None:
        if cur is not None:
            return super()._next(cur)
        if not self._deciding:  # a thread ended: let those go first who waited for it
            self._decide_later(None, self.all_threads[-1])
            return None
        if not self.over and not self.waited_for():
            self._paused = True
            self._settle()
            return None
        return super()._next(None)

    def decide_suspended(self, cur: Thread | None, stepped: Thread) -> None:
        """Decide once the callers' tasks have nothing left to run."""
        assert self.loop is not None
        if self.loop.busy and self._patience:
            self._patience -= 1
            self._decide_later(cur, stepped)
            return
        self._patience = QUIET_TURNS
        self._deciding = True
        try:
            nxt = self._next(None)
        except SimulationEnded:
            return
        except Exception as error:
            self.crashed(stepped, error)
            return
        finally:
            self._deciding = False
        if nxt is not None:
            assert nxt.parker is not None
            nxt.parker.resume()

    def _nothing_left(self, enabled: list[Thread]) -> None:
        if self.over:
            super()._nothing_left(enabled)
        else:
            self._paused = True  # a later call may yet end the wait

    def _idle(self) -> bool:
        """Judge whoever waits now, since no caller can do anything any more."""
        waiting = self.waited_for()
        if self.ended or not waiting:
            return False
        waitfor.deadlock(self, waiting)
        return True

    # -- results ---------------------------------------------------------------------------

    def thread_finished(self, thread: Thread) -> None:
        """Hand a call its result."""
        super().thread_finished(thread)
        future = self._calls.pop(thread.tid, None)
        if future is not None and not future.done():
            future.set_result(self._results.pop(thread.tid, None))

    def finish(self, finding: Finding | None) -> None:
        """End the execution, and with it the calls that are under way."""
        if self.ended:
            return
        super().finish(finding)
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(self._failure())
        self._settle()

    def _failure(self) -> BaseException:
        return self.error or ExecutionEnded(self.finding, self.cut)
