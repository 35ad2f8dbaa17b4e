"""Mailboxes and replies: how actors exchange messages."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Generic, TypeVar

from mshv_async.sim.current import current
from mshv_async.sim.op import INTERRUPTIBLE, KILLABLE, SLEEP, SPIN, UNINTERRUPTIBLE, Kind, Op
from mshv_async.sim.shared import Shared
from mshv_async.sim.thread import Thread, do, park

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

M = TypeVar("M")
R = TypeVar("R")


class Mailbox(Shared, Generic[M]):
    """A bounded queue with one receiver; a full one makes senders wait.

    Idle daemons wait in :meth:`receive`; that wait never makes a deadlock.
    """

    __slots__ = ("_receive", "capacity", "messages", "receiver")
    _const = ("_receive", "capacity")
    _sync = True
    _guards = ("_has_some", "_has_room")

    def __init__(self, name: str, capacity: int = 64) -> None:
        super().__init__(name)
        self.capacity = capacity
        self.messages: tuple[M, ...] = ()
        self.receiver: Thread | None = None
        self._receive = Op("mailbox.receive", self, guard=self._has_some, kind=SLEEP, idle=True)

    def _has_some(self, thread: Thread | None) -> bool:
        del thread
        return bool(self.messages)

    def _has_room(self, thread: Thread | None) -> bool:
        del thread
        return len(self.messages) < self.capacity

    def _receivers(self) -> Sequence[Thread]:
        return (self.receiver,) if self.receiver is not None else ()

    async def send(self, message: M) -> None:
        """Put a message at the end, waiting for room."""
        await do(
            Op("mailbox.send", self, guard=self._has_room, holders=self._receivers, kind=SLEEP)
        )
        self._put(message)

    def post(self, message: M) -> None:
        """Put a message without a scheduling point: for channels that one thread alone feeds."""
        assert len(self.messages) < self.capacity, f"{self.name} overflows"
        self._put(message)

    def _put(self, message: M) -> None:
        self.messages = (*self.messages, message)
        if self.receiver is not None and self.receiver.asleep:
            self.receiver.rt.rouse(self.receiver)

    @property
    def receiving(self) -> Op:
        """What a thread declares that begins by receiving."""
        return self._receive

    async def receive(self) -> M:
        """Take the first message, waiting for one."""
        thread = current()
        self.receiver = thread
        if thread.rt.arrive(thread, self._receive):
            await park(thread.parker)  # type: ignore[arg-type]
        message, self.messages = self.messages[0], self.messages[1:]
        return message


class _Nothing:
    __slots__ = ()


_NOTHING = _Nothing()


class Reply(Shared, Generic[M]):
    """The answer to one question: set once by the actor, got once by who asked.

    ``answerer`` is the thread bound to answer, for the wait-for graph; None: unknown.
    """

    __slots__ = ("answerer", "value")
    _sync = True
    _guards = ("_answered",)

    def __init__(self, name: str, answerer: Thread | None = None) -> None:
        super().__init__(name)
        self.value: M | _Nothing = _NOTHING
        self.answerer = answerer

    def set(self, value: M) -> None:
        """Answer, in the current step."""
        assert isinstance(self.value, _Nothing), f"{self.name} answered twice"
        self.value = value

    def _answered(self, thread: Thread | None) -> bool:
        del thread
        return not isinstance(self.value, _Nothing)

    def _answerers(self) -> Sequence[Thread]:
        return (self.answerer,) if self.answerer is not None else ()

    async def get(
        self, kind: Kind = SPIN, wait: str = UNINTERRUPTIBLE, label: str = "ask.answer"
    ) -> M | None:
        """Wait for the answer; None if a signal ended a killable or interruptible wait."""
        op = Op(
            label, self, kind=kind, guard=self._answered, holders=self._answerers, wait=wait,
            write=False,
        )  # fmt: skip
        await do(op)
        value = self.value
        return None if isinstance(value, _Nothing) else value


async def tell(box: Mailbox[M], message: M) -> None:
    """Send without waiting for an answer."""
    await box.send(message)


async def ask(
    box: Mailbox[M], message: Callable[[Reply[R]], M], wait: str = UNINTERRUPTIBLE
) -> R | None:
    """Send a message that carries a reply slot, and sleep until the actor has set it.

    None if a signal ended a killable or interruptible wait.
    """
    reply: Reply[R] = Reply(f"{box.name}.reply", box.receiver)
    await box.send(message(reply))
    reply.answerer = box.receiver
    return await reply.get(SLEEP, wait)


def _timer_fired(thread: Thread) -> bool:
    return thread.timer_fired


_SLEEPS = {
    wait: Op("sleep", write=False, kind=SLEEP, guard=_timer_fired, wait=wait, timed=True)
    for wait in (UNINTERRUPTIBLE, KILLABLE, INTERRUPTIBLE)
}


async def sleep_ns(ns: int, wait: str = UNINTERRUPTIBLE) -> int:
    """Sleep for virtual nanoseconds; 0, or -EINTR if a signal ended a sleep that it may end.

    In exploration the timer's firing is a decision.
    """
    thread = current()
    op = _SLEEPS[wait]
    if op.interruptible and thread.interrupted_in(wait):
        return -errno.EINTR
    thread.rt.arm_timer(thread, ns)
    slept = await do(op)
    thread.timer_fired = False
    return 0 if slept else -errno.EINTR
