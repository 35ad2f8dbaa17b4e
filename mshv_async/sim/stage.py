"""Where executions are played: one task group, with tasks that serve thread after thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio

from mshv_async.sim.current import current_thread, instrumented
from mshv_async.sim.faults import ModelFault, SimulationEnded
from mshv_async.sim.loop import sim_loop_factory
from mshv_async.sim.thread import Parker, Thread, park

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from mshv_async.sim.runtime import Runtime


class Exited(Exception):
    """Modelled code tried to end the program (``sys.exit``)."""


class Interrupted(Exception):
    """Stands for a KeyboardInterrupt, which would tear the loop itself down."""


class _Seat:
    """One task that runs the bodies of simulated threads, one after the other."""

    __slots__ = ("closed", "parker", "thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        self.parker = Parker(loop)
        self.thread: Thread | None = None


class Stage:
    """Plays executions on the running simulated loop.

    Creating a task costs ten times what switching to one does, so tasks are kept between
    executions. Use as an async context manager inside :func:`on_stage`.
    """

    def __init__(self, group: TaskGroup) -> None:
        self.loop: Any = asyncio.get_running_loop()
        self.group = group
        self._idle: list[_Seat] = []
        self._all: list[_Seat] = []

    async def play(self, runtime: Runtime) -> None:
        """Run one execution to its end; the runtime holds what it came to."""
        done: asyncio.Future[None] = self.loop.create_future()
        missing = len(runtime.live) - len(self._idle)
        if missing > 0:
            await self._hire(missing + 2)
        runtime.begin(self.loop, done, self._assign)
        try:
            await done
        except asyncio.CancelledError:
            runtime.cut = "interrupted"
            runtime.finish(None)
            raise
        if runtime.error is not None:
            raise runtime.error

    def close(self) -> None:
        """Let the tasks return: the idle ones now, the others once their execution is reaped."""
        for seat in self._all:
            seat.closed = True
            self.loop.call_soon(self._dismiss, seat)
        self._all.clear()

    def _dismiss(self, seat: _Seat) -> None:
        if seat.parker.wake is not None:
            seat.parker.dead = True
            seat.parker.resume()

    async def _hire(self, count: int) -> None:
        for _ in range(count):
            seat = _Seat(self.loop)
            self._all.append(seat)
            self._idle.append(seat)
            self.group.start_soon(self._work, seat)
        # Each new task must reach its parker before it can be resumed.
        while any(seat.parker.wake is None for seat in self._idle):  # noqa: ASYNC110 - a turn or two
            await asyncio.sleep(0)

    def _assign(self, thread: Thread) -> None:
        if thread.parker is not None or thread.body is None:
            return
        if self._idle:
            seat = self._idle.pop()
            seat.thread = thread
            thread.parker = seat.parker
            return
        # A thread made while the execution runs: its task starts at the next turn of the loop,
        # which comes before any simulated thread is resumed.
        seat = _Seat(self.loop)
        self._all.append(seat)
        seat.thread = thread
        thread.parker = seat.parker
        self.group.start_soon(self._work, seat)

    async def _work(self, seat: _Seat) -> None:
        while not seat.closed:
            try:
                await park(seat.parker)
            except SimulationEnded:
                self._vacate(seat)
                continue
            assert seat.thread is not None
            await self._serve(seat, seat.thread)

    def _vacate(self, seat: _Seat) -> None:
        seat.parker.dead = False
        seat.thread = None
        self._idle.append(seat)

    async def _serve(self, seat: _Seat, thread: Thread) -> None:
        runtime = thread.rt
        token = current_thread.set(thread)
        instruments = runtime.instruments  # for what the thread makes
        checked = instrumented.set(instruments) if instruments is not instrumented.get() else None
        try:
            thread.coro = thread.body()
            await thread.coro
        except SimulationEnded:
            pass
        except ModelFault as fault:
            runtime.faulted(thread, fault, fault.__traceback__)
        except Exception as error:  # a defect of the model must end the execution
            runtime.crashed(thread, error)
        except SystemExit as error:  # a user's driver must not end the program without a word
            runtime.crashed(thread, Exited(repr(error)).with_traceback(error.__traceback__))
        except KeyboardInterrupt:  # it came while modelled code ran: end that in good order
            runtime.crashed(thread, Interrupted())
        self._vacate(seat)
        try:
            runtime.thread_finished(thread)
        except Exception as error:  # of a strategy, a checker, a watcher
            runtime.crashed(thread, error)
        if checked is not None:
            instrumented.reset(checked)
        current_thread.reset(token)  # so that the idle task keeps no execution alive


async def on_stage(act: Callable[[Stage], Awaitable[Any]]) -> Any:
    """Open a stage on the running loop, run ``act`` with it, and close it.

    An exception of ``act`` comes out as it is, not in a group.
    """
    failure: Exception | None = None
    result: Any = None
    async with anyio.create_task_group() as group:
        stage = Stage(group)
        try:
            result = await act(stage)
        except Exception as error:  # raised again below
            failure = error
        finally:
            stage.close()
    if failure is not None:
        raise failure
    return result


def run_on_stage(act: Callable[[Stage], Awaitable[Any]], *, realtime: bool = False) -> Any:
    """Run ``act`` with a stage on a new simulated loop, from synchronous code.

    ``realtime``: on the stock asyncio loop instead.
    """
    options = {} if realtime else {"loop_factory": sim_loop_factory}
    try:
        return anyio.run(on_stage, act, backend_options=options)
    except Interrupted:
        raise KeyboardInterrupt from None
