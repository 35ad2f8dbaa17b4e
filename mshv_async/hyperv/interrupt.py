"""Signals from the hypervisor to the root, and the processor that takes the interrupt.

Messages of the synthetic interrupt controller reach one actor of the root, which calls the
handler that the driver registered, with interrupts off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from mshv_async.hyperv.message import SignalMessage
from mshv_async.sim import Mailbox, Shared, current, irq_restore, irq_save, note, probe

InterruptHandler = Callable[[SignalMessage], Awaitable[None]]

QUEUE_MESSAGES: Final = 1024
"""Signals in flight; each virtual processor has at most one intercept outstanding."""


class RootInterrupts(Shared):
    """The way from a virtual processor to the root's interrupt handler.

    The first message of all starts the actor; whose that is makes no difference.
    """

    __slots__ = ("handler", "queue", "started")
    _const = ("queue",)
    _embedded = ("queue",)
    _sync = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.queue: Mailbox[SignalMessage] = Mailbox(f"{name}.queue", QUEUE_MESSAGES)
        self.handler: InterruptHandler | None = None
        self.started = False

    async def send(self, message: SignalMessage) -> bool:
        """Raise the interrupt for a message; False: nobody registered a handler, it is lost."""
        if self.handler is None:
            return False
        if not self.started:
            self.started = True
            current().rt.spawn("hv-isr", self._take_interrupts, daemon=True)
        await self.queue.send(message)
        note("vp.kick", partition=message.sender, vp=message.vp_index, type=message.type.name)
        return True

    async def _take_interrupts(self) -> None:
        while True:
            message = await self.queue.receive()
            handler = self.handler
            assert handler is not None
            irq_save()
            await handler(message)
            probe("kick.handled", message)
            irq_restore()
