"""Wait queues and completions. A sleeper is woken by a wake-up, never by the condition alone."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mshv_async.sim.current import current
from mshv_async.sim.op import SLEEP, UNINTERRUPTIBLE, Op
from mshv_async.sim.shared import Shared
from mshv_async.sim.thread import Thread, do

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _was_woken(thread: Thread) -> bool:
    return thread.woken


def _tid(thread: Thread) -> int:
    return thread.tid


class WaitQueue(Shared):
    """Sleepers and wake-ups; enqueueing and testing the condition are one step.

    ``together``: they are only ever woken all at once, so that the order in which they came says
    nothing.
    """

    __slots__ = ("commutes", "together", "waiters")
    _const = ("commutes", "together")
    _sync = True

    def __init__(self, name: str, *, together: bool = False) -> None:
        super().__init__(name)
        self.together = together
        self.commutes = "wait" if together else ""
        self.waiters: list[Thread] = []

    async def wait_event(
        self,
        cond: Callable[[], bool],
        wait: str = UNINTERRUPTIBLE,
        holders: Callable[[], Sequence[Thread]] | None = None,
    ) -> int:
        """Sleep until a wake-up finds the condition true; 0, or -EINTR after a signal.

        ``holders`` names who will wake, for the wait-for graph; None: unknown.
        """
        thread = current()
        await do(Op("wait.prepare", self, kind=SLEEP, commutes=self.commutes))
        while True:
            if cond():
                return 0
            thread.woken = False
            waiters = [*self.waiters, thread]
            self.waiters = sorted(waiters, key=_tid) if self.together else waiters
            op = Op(
                "wait.sleep", self, kind=SLEEP, guard=_was_woken, holders=holders, wait=wait,
                commutes=self.commutes,
            )  # fmt: skip
            if not await do(op):
                self.waiters = [t for t in self.waiters if t is not thread]
                return 0 if cond() else -errno.EINTR
            if not thread.woken:  # let go because the queue was freed: meet that
                self.waiters = [t for t in self.waiters if t is not thread]
            thread.woken = False

    def wake_up(self) -> None:
        """Wake the sleeper that came first."""
        assert not self.together, "who came first is not known"
        if self.waiters:
            self.waiters[0].woken = True
            self.waiters = self.waiters[1:]

    def wake_all(self) -> None:
        """Wake all sleepers."""
        for thread in self.waiters:
            thread.woken = True
        self.waiters = []


class Completion(Shared):
    """Counts completions; each wait takes one. ``binder``: the thread bound to complete it."""

    __slots__ = ("binder", "done")
    _sync = True
    _guards = ("_ready",)

    def __init__(self, name: str, binder: Thread | None = None) -> None:
        super().__init__(name)
        self.done = 0
        self.binder = binder

    def _ready(self, thread: Thread | None) -> bool:
        del thread
        return self.done > 0

    def _bound(self) -> Sequence[Thread]:
        return (self.binder,) if self.binder is not None else ()

    async def wait(self, wait: str = UNINTERRUPTIBLE) -> int:
        """Wait for one completion; 0, or -EINTR after a signal."""
        holders = self._bound if self.binder is not None else None
        op = Op("completion.wait", self, kind=SLEEP, guard=self._ready, holders=holders, wait=wait)
        if not await do(op):
            return -errno.EINTR
        self.done -= 1
        return 0

    async def complete(self) -> None:
        """Let one waiter go on."""
        await do(Op("completion.complete", self))
        self.done += 1
