"""Several processes play one campaign: batches go out in order, and come back in order.

The standard library's process pool, from a fork server, so that no thread or lock of the program
that searches is copied. A worker that dies is replaced and its batch played again: executions are
the same whoever plays them.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mshv_async.explore import worker
from mshv_async.explore.batches import figures
from mshv_async.explore.results import CampaignError
from mshv_async.explore.worker import Board

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mshv_async.explore.batches import Batch, Figures
    from mshv_async.explore.numbers import Numbers
    from mshv_async.explore.transport import Work

NO_LIMIT = 1 << 62
POLL_S = 0.1
BATCH_S = 1.0
"""What a batch should take: long beside its way to and fro, short beside a user's patience."""

FIRST_BATCH, LEAST_BATCH, MOST_BATCH = 64, 16, 512
ATTEMPTS = 3


class WorkerError(CampaignError):
    """Worker processes cannot be kept alive. One line."""


@dataclass(slots=True)
class Out:
    """A batch that is out: its numbers, its place on the board, and what will bring it back."""

    first: int
    after: int
    slot: int
    future: Future[Batch]


class Workers:
    """Plays numbers with some processes until they are used up, or a batch is the last.

    ``look`` is called some times a second; it says whether the campaign is to end now.
    """

    def __init__(self, work: Work, count: int, look: Callable[[], bool]) -> None:
        self._work = work
        self._count = count
        self._look = look
        slots = count + 1  # one more batch is out than there are workers, so that none waits
        self._cells = multiprocessing.get_context("forkserver").RawArray("q", Board.size(slots))
        self._board = Board(self._cells)
        self._board.limit = NO_LIMIT
        self._context = _Context()
        self._pool: ProcessPoolExecutor | None = None
        self._out: list[Out] = []
        self._order: deque[int] = deque()  # first numbers of all batches that were not taken
        self._back: dict[int, Batch] = {}  # by first number
        self._slots = list(range(slots))
        self._size = FIRST_BATCH
        self._failures = 0

    def play(self, numbers: Numbers, take: Callable[[Batch], None]) -> None:
        """Hand each batch to ``take``, in the order of their numbers.

        After a batch with an end no other is taken. If ``look`` ended the campaign, what was
        played by then is taken, though numbers between may be missing. Raises WorkerError.
        """
        try:
            while self._hand_out(numbers):
                if self._look():
                    self._board.limit = -1
                self._collect()
                if self._take_in_order(take):
                    break
            for first in sorted(self._back):
                take(self._back[first])
        except BaseException:
            self._context.kill()
            raise
        finally:
            self._close()  # those that are still at work find the limit, and stop

    def figures(self) -> list[Figures]:
        """Return schedules, steps and findings of each batch that was not taken yet."""
        shown = [self._board.figures(out.slot) for out in self._out]
        return shown + [figures(batch) for batch in self._back.values()]

    def _hand_out(self, numbers: Numbers) -> bool:
        """Give every worker something to do; False: nothing is out, and nothing left."""
        while self._slots and self._board.limit == NO_LIMIT:
            fair = numbers.left() // (2 * self._count)  # at the end nobody should wait for long
            taken = numbers.take(max(LEAST_BATCH, min(self._size, fair)))
            if taken is None:
                break
            first, after = taken
            self._order.append(first)
            self._submit(first, after)
        return bool(self._out)

    def _submit(self, first: int, after: int) -> None:
        slot = self._slots.pop()
        self._board.show(slot, None)
        try:
            future = self._running().submit(worker.play, slot, first, after)
        except (BrokenProcessPool, OSError, EOFError) as error:
            future = Future()
            future.set_exception(BrokenProcessPool(str(error)))
        self._out.append(Out(first, after, slot, future))

    def _running(self) -> ProcessPoolExecutor:
        if self._pool is None:
            _start_server()
            self._pool = ProcessPoolExecutor(
                self._count,
                mp_context=self._context,
                initializer=worker.begin,
                initargs=(self._work, self._cells),
            )
        return self._pool

    def _collect(self) -> None:
        """Wait a moment for batches to come back."""
        wait([out.future for out in self._out], timeout=POLL_S, return_when=FIRST_COMPLETED)
        lost = []
        for out in [out for out in self._out if out.future.done()]:
            self._out.remove(out)
            self._slots.append(out.slot)
            try:
                self._came_back(out, out.future.result())
            except BrokenProcessPool:
                lost.append(out)
        if lost:
            self._again(lost)

    def _came_back(self, out: Out, batch: Batch) -> None:
        self._failures = 0
        self._back[out.first] = batch
        if batch.end is not None:
            self._board.limit = min(self._board.limit, batch.after)
        if batch.seconds:
            played = batch.after - batch.first
            self._size = min(max(LEAST_BATCH, int(played / batch.seconds * BATCH_S)), MOST_BATCH)

    def _again(self, lost: list[Out]) -> None:
        """Play batches again that went with a worker, with new workers."""
        self._failures += 1
        self._context.kill()
        self._close()
        if self._failures == ATTEMPTS:
            raise WorkerError(
                f"a worker process died {ATTEMPTS} times (killed? out of memory?) "
                f"in executions {lost[0].first + 1:,} to {lost[0].after:,}; one worker may do"
            )
        for out in lost:
            self._submit(out.first, out.after)

    def _take_in_order(self, take: Callable[[Batch], None]) -> bool:
        """Take what is complete from the first batch on; True: that was the end."""
        while self._order and self._order[0] in self._back:
            batch = self._back.pop(self._order.popleft())
            take(batch)
            if batch.end is not None:
                self._back.clear()
                return True
        return False

    def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)


class _Process(ForkServerProcess):
    """A process that imports nothing of the program that searches.

    Its main module is the command line, or a user's script that was not made to be imported.
    """

    def start(self) -> None:
        with _no_main_module():
            super().start()


class _Context(ForkServerContext):
    """Makes such processes, and keeps them in mind."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[_Process] = []

    def Process(self, *args: Any, **options: Any) -> _Process:  # type: ignore[override] # noqa: N802
        process = _Process(*args, **options)
        self._made.append(process)
        return process

    def kill(self) -> None:
        """End all of them, whatever they do."""
        for process in self._made:
            if process.is_alive():
                process.kill()
        self._made.clear()


_hiding = threading.Lock()


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Give the interpreter a main module without a file while a process is started."""
    with _hiding:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _start_server() -> None:
    """Start the fork server, deaf to ^C and SIGTERM, as its workers then are from birth.

    A terminal sends ^C, and `timeout` SIGTERM, to all processes of a command; what is to end is
    the campaign's to say.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([worker.__name__])
    resource_tracker.ensure_running()  # it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
