"""The reader/writer semaphore, fair as the kernel's: a waiting writer holds back new readers."""

from __future__ import annotations

import errno
from operator import attrgetter
from typing import TYPE_CHECKING

from mshv_async.sim.current import current
from mshv_async.sim.faults import oops
from mshv_async.sim.locks import acquired, released, waits
from mshv_async.sim.op import KILLABLE, SLEEP, UNINTERRUPTIBLE, Op
from mshv_async.sim.shared import Shared
from mshv_async.sim.thread import Thread, do

if TYPE_CHECKING:
    from collections.abc import Sequence

_tid = attrgetter("tid")


class RwSem(Shared):
    """Many readers or one writer; both may sleep.

    A writer's arrival is a step of its own, because from then on readers that arrive queue behind
    it (a recursive reader for ever). Readers that were queued already may go first, and a writer
    that releases lets the whole batch of queued readers through if one stands at the head
    (spec.md 1.3). ``barging`` lets readers pass a waiting writer.
    """

    __slots__ = ("barging", "cls", "queue", "readers", "writer")
    _const = ("barging", "cls")
    _sync = True
    _guards = ("_readable", "_writable")

    def __init__(self, name: str, cls: str, *, barging: bool = False) -> None:
        super().__init__(name)
        self.cls = cls
        self.barging = barging
        self.readers: list[Thread] = []
        self.writer: Thread | None = None
        # Waiting writers in order of arrival, each with the readers that were queued before it.
        self.queue: tuple[tuple[Thread, tuple[Thread, ...]], ...] = ()

    def _readable(self, thread: Thread | None) -> bool:
        if self.writer is not None:
            return False
        return self.barging or not self.queue or thread in self.queue[0][1]

    def _writable(self, thread: Thread | None) -> bool:
        del thread
        return self.writer is None and not self.readers

    def _read_holders(self) -> Sequence[Thread]:
        if self.writer is not None:
            return (self.writer,)
        return (self.queue[0][0],) if self.queue else ()

    def _write_holders(self) -> Sequence[Thread]:
        return (self.writer,) if self.writer is not None else tuple(self.readers)

    def _admit(self, thread: Thread) -> None:
        """Count a reader; in no order, so that states do not differ by who came first."""
        self.readers = sorted((*self.readers, thread), key=_tid)

    def _queued_readers(self, thread: Thread) -> tuple[Thread, ...]:
        """Return the readers that cannot go on now, whoever made it so."""
        return tuple(
            t
            for t in thread.rt.live
            if t.op.obj is self and t.op.label == "rwsem.read_lock" and not self._readable(t)
        )

    def _leave_queue(self, thread: Thread) -> None:
        if self.queue:
            self.queue = tuple(
                (writer, tuple(t for t in ahead if t is not thread))
                for writer, ahead in self.queue
                if writer is not thread
            )

    def _let_batch_through(self, thread: Thread) -> None:
        """Let all queued readers pass, if one of them is at the head when a writer releases."""
        if self.queue and self.queue[0][1]:
            readers = self._queued_readers(thread)
            self.queue = tuple((writer, readers) for writer, _ in self.queue)

    async def _down_read(self, wait: str) -> int:
        thread = current()
        op = Op(
            "rwsem.read_lock", self, write=True, kind=SLEEP,
            guard=self._readable, holders=self._read_holders, wait=wait,
            commutes="read", arrives=True,
        )  # fmt: skip
        if thread.rt.notes is not None and not self._readable(thread):
            waits(thread, self)
        got = await do(op)
        self._leave_queue(thread)
        if not got:
            return -errno.EINTR
        self._admit(thread)
        acquired(thread, self)
        return 0

    async def down_read(self) -> None:
        """Acquire for reading, waiting uninterruptibly."""
        await self._down_read(UNINTERRUPTIBLE)

    async def down_read_killable(self) -> int:
        """Acquire for reading; -EINTR when a fatal signal ends the wait."""
        return await self._down_read(KILLABLE)

    async def down_read_trylock(self) -> bool:
        """Acquire for reading if that needs no wait."""
        thread = current()
        await do(Op("rwsem.read_trylock", self, commutes="read"))
        if self.writer is not None or (self.queue and not self.barging):
            return False
        self._admit(thread)
        acquired(thread, self, tried=True)
        return True

    async def up_read(self) -> None:
        """Release a reader's hold."""
        thread = current()
        await do(Op("rwsem.read_unlock", self, commutes="read"))
        if thread not in self.readers:
            oops(f"{self.name} read-released by {thread.name}, which does not hold it", self)
        left = list(self.readers)
        left.remove(thread)
        self.readers = left
        released(thread, self)

    async def _down_write(self, wait: str) -> int:
        thread = current()
        await do(Op("rwsem.write_arrive", self, kind=SLEEP, looks=True))
        if thread.rt.notes is not None and not self._writable(thread):
            waits(thread, self)
        self.queue = (*self.queue, (thread, self._queued_readers(thread)))
        op = Op(
            "rwsem.write_lock", self, kind=SLEEP,
            guard=self._writable, holders=self._write_holders, wait=wait,
        )  # fmt: skip
        got = await do(op)
        self._leave_queue(thread)
        if not got:
            return -errno.EINTR
        self.writer = thread
        acquired(thread, self)
        return 0

    async def down_write(self) -> None:
        """Acquire for writing, waiting uninterruptibly."""
        await self._down_write(UNINTERRUPTIBLE)

    async def down_write_killable(self) -> int:
        """Acquire for writing; -EINTR when a fatal signal ends the wait."""
        return await self._down_write(KILLABLE)

    async def up_write(self) -> None:
        """Release the writer's hold."""
        thread = current()
        await do(Op("rwsem.write_unlock", self, looks=True))
        if self.writer is not thread:
            oops(f"{self.name} write-released by {thread.name}, which does not hold it", self)
        self._let_batch_through(thread)
        self.writer = None
        released(thread, self)

    async def downgrade_write(self) -> None:
        """Turn the writer's hold into a reader's without letting a writer in between."""
        thread = current()
        await do(Op("rwsem.downgrade", self, looks=True))
        if self.writer is not thread:
            oops(f"{self.name} downgraded by {thread.name}, which does not hold it", self)
        self._let_batch_through(thread)
        self.writer = None
        self._admit(thread)
