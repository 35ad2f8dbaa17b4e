"""A logical processor as hypercalls see it: one calling thread and the worker that serves it.

A hypercall runs on its caller's logical processor, so each calling thread has a channel and a
worker of its own and never waits for another caller's call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.hyperv.request import HvRequest, HvResult
from mshv_async.sim import Mailbox, Shared, Thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.hyperv.vp import VirtualProcessor


class LogicalProcessor(Shared):
    """The channel between ``caller`` and its ``worker``.

    ``result`` is the answer that the caller spins for. ``server`` is who owes it: the worker, or
    the guest processor while the dispatched virtual processor ``vp`` runs.
    """

    __slots__ = ("caller", "requests", "result", "server", "vp", "worker")
    _const = ("caller", "requests")
    _embedded = ("requests",)
    _sync = True

    def __init__(self, caller: Thread) -> None:
        super().__init__(f"lp-{caller.name}")
        self.caller = caller
        self.requests: Mailbox[HvRequest] = Mailbox(f"{self.name}.requests", 1)
        self.result: HvResult | None = None
        self.server: Thread | None = None
        self.vp: VirtualProcessor | None = None
        self.worker: Thread | None = None

    def answer(self, result: HvResult) -> None:
        """Give the caller its result; once a call."""
        assert self.result is None, "a hypercall is answered once"
        self.result = result

    def answered(self, _caller: Thread) -> bool:
        """Guard of the spinning caller."""
        return self.result is not None

    def answered_or_interrupted(self, caller: Thread) -> bool:
        """Guard of a caller that dispatched: a signal for it is an interrupt of this processor.

        The interrupt ends nothing before the virtual processor runs (spec.md 4.7).
        """
        return self.result is not None or (self.vp is not None and caller.signal_pending)

    def servers(self) -> Sequence[Thread]:
        """Threads that can end the caller's wait."""
        return () if self.server is None else (self.server,)
