"""Virtual processors: when one may run, how it stops, and whom that tells (spec.md 4.7, 5.5).

A virtual processor runs while no suspend register is set and, under the root scheduler, while a
DISPATCH_VP holds it. Every guest access is one step, so at any other thread's step the virtual
processor stands on an instruction boundary: a suspend takes effect at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.hyperv.codes import (
    DISPATCH_CLEAR_INTERCEPT_SUSPEND,
    Access,
    DispatchEvent,
    DispatchState,
    HvMessageType,
    HvRegister,
    HvStatus,
)
from mshv_async.hyperv.message import NO_MESSAGE, PAGE_SHIFT, InterceptMessage, SignalMessage
from mshv_async.hyperv.request import HvResult
from mshv_async.sim import RangeMap, Shared, current, note, probe

if TYPE_CHECKING:
    from mshv_async.hyperv.lp import LogicalProcessor
    from mshv_async.hyperv.partition import HvPartition
    from mshv_async.hyperv.slat import SlatEntry
    from mshv_async.sim import Thread

_SUSPENDED = HvResult(HvStatus.SUCCESS, 0, state=DispatchState.BLOCKED, event=DispatchEvent.SUSPEND)
_INTERCEPTED = HvResult(
    HvStatus.SUCCESS, 0, state=DispatchState.READY, event=DispatchEvent.INTERCEPT
)
_INTERRUPTED = HvResult(HvStatus.SUCCESS, 0, state=DispatchState.READY)


class Tlb(RangeMap["SlatEntry"]):
    """GFN to the entry that a virtual processor last used; its own and the hypervisor's."""

    __slots__ = ()
    _sync = True


class VirtualProcessor(Shared):
    """Registers and run state of one virtual processor; a new one is explicitly suspended.

    ``dispatched``: the logical processor whose DISPATCH_VP holds it (root scheduler). ``runnable``
    is derived from the rest. ``signal_count``: signals sent to the root for it so far.
    ``guest``: the thread that executes its instructions, once there is one. ``tlb``: translations
    that outlive a change of the table; None where hypercalls flush them.
    """

    __slots__ = (
        "dispatch_suspend",
        "dispatched",
        "explicit_suspend",
        "guest",
        "index",
        "intercept_message",
        "intercept_suspend",
        "partition",
        "root_scheduled",
        "runnable",
        "signal_count",
        "tlb",
    )
    _const = ("index", "partition", "root_scheduled", "tlb")
    _embedded = ("tlb",)
    _sync = True

    def __init__(self, partition: HvPartition, index: int, *, root_scheduled: bool) -> None:
        super().__init__(f"{partition.name}.vp{index}")
        self.partition = partition
        self.index = index
        self.root_scheduled = root_scheduled
        self.explicit_suspend = True
        self.intercept_suspend = False
        self.dispatch_suspend = False
        self.dispatched: LogicalProcessor | None = None
        self.runnable = False
        self.signal_count = 0
        self.intercept_message = NO_MESSAGE
        self.guest: Thread | None = None
        delayed = partition.hv.slat_rules.tlb == "delayed"
        self.tlb = Tlb(f"{self.name}.tlb", linear=True) if delayed else None

    # -- what the root does ----------------------------------------------------------------

    def dispatch(self, lp: LogicalProcessor, flags: int) -> HvResult | None:
        """Let the virtual processor run for ``lp``; None: the guest answers when it stops."""
        if not self.root_scheduled:
            return HvResult(HvStatus.OPERATION_DENIED)
        if self.dispatched is not None:
            return HvResult(HvStatus.INVALID_VP_STATE)
        if flags & DISPATCH_CLEAR_INTERCEPT_SUSPEND:
            self.intercept_suspend = False
        if self.explicit_suspend or self.intercept_suspend or self.dispatch_suspend:
            return _SUSPENDED
        self.dispatched = lp
        lp.server = self.guest
        lp.vp = self
        self.runnable = True
        note("vp.dispatch", partition=self.partition.id, vp=self.index)
        return None

    def set_register(self, name: HvRegister, value: int) -> HvStatus:
        """Write a register; a suspend stops the virtual processor, clearing it lets it run."""
        if name is HvRegister.EXPLICIT_SUSPEND:
            self.explicit_suspend = bool(value)
        elif name is HvRegister.INTERCEPT_SUSPEND:
            self.intercept_suspend = bool(value)
        elif name is HvRegister.DISPATCH_SUSPEND:
            self.dispatch_suspend = bool(value)
        else:
            return HvStatus.INVALID_PARAMETER
        self._settle()
        return HvStatus.SUCCESS

    def get_register(self, name: HvRegister) -> int:
        """Read a register."""
        if name is HvRegister.EXPLICIT_SUSPEND:
            return int(self.explicit_suspend)
        if name is HvRegister.INTERCEPT_SUSPEND:
            return int(self.intercept_suspend)
        if name is HvRegister.DISPATCH_SUSPEND:
            return int(self.dispatch_suspend)
        return self.signal_count

    def interrupt(self) -> None:
        """End the dispatch because the host interrupts its processor: READY, without an event."""
        self.runnable = False
        self._answer(_INTERRUPTED)

    def halt_for_good(self) -> None:
        """Stop because the partition is being finalised."""
        self.explicit_suspend = True
        self._settle()

    def _settle(self) -> None:
        suspended = self.explicit_suspend or self.intercept_suspend or self.dispatch_suspend
        if suspended and self.dispatched is not None:
            self._answer(_SUSPENDED)
        self.runnable = not suspended and (self.dispatched is not None or not self.root_scheduled)

    def _answer(self, result: HvResult) -> None:
        lp = self.dispatched
        assert lp is not None
        self.dispatched = None
        lp.vp = None
        lp.answer(result)

    # -- what the guest does ---------------------------------------------------------------

    def may_run(self, _guest: Thread) -> bool:
        """Guard of the guest's next instruction."""
        return self.runnable

    def translate(self, gfn: int, access: Access) -> SlatEntry | None:
        """Return the entry that an access goes by: the table's, or an older one not yet flushed.

        A right that the remembered entry lacks is looked for in the table, as processors do.
        """
        tlb = self.tlb
        if tlb is not None:
            known = tlb.get(gfn)
            if known is not None and known.allows(access):
                return known
        entry = self.partition.slat.get(gfn)
        if tlb is not None and entry is not None and entry.allows(access):
            tlb.set(gfn, gfn + 1, entry)
        return entry

    def flush_tlb(self, lo: int, hi: int) -> None:
        """Forget the translations of GFNs ``[lo, hi)``."""
        if self.tlb is not None:
            self.tlb.clear(lo, hi)

    async def refuse(self, access: Access, gfn: int, entry: SlatEntry | None) -> None:
        """Stop because an access found no entry (UNMAPPED_GPA) or no right (GPA_INTERCEPT)."""
        kind = HvMessageType.UNMAPPED_GPA if entry is None else HvMessageType.GPA_INTERCEPT
        message = InterceptMessage(
            kind, self.index, access, gfn << PAGE_SHIFT, sender=self.partition.id
        )
        self._stop(message)
        probe("guest.refused", self, access, gfn, message)
        await self._tell_root()

    async def intercept(self, message: InterceptMessage) -> None:
        """Stop with a message that is not about a memory access, such as HALT."""
        self._stop(message._replace(sender=self.partition.id))
        await self._tell_root()

    def _stop(self, message: InterceptMessage) -> None:
        assert self.runnable, "only a running virtual processor is intercepted"
        self.intercept_message = message
        self.intercept_suspend = True
        self.runnable = False
        if current().rt.notes is not None:
            note(
                "guest.intercept",
                vp=self.index,
                type=message.type.name,
                access=message.access.name,
                gfn=message.gfn,
            )
        if self.dispatched is not None:
            self._answer(_INTERCEPTED)

    async def _tell_root(self) -> None:
        if not self.root_scheduled:
            await self.signal(HvMessageType.OPAQUE_INTERCEPT)

    async def signal(self, kind: HvMessageType) -> None:
        """Send the root's interrupt handler a signal for this virtual processor: a kick."""
        partition = self.partition
        message = SignalMessage(kind, partition.id, self.index)
        if await partition.hv.interrupts.send(message):
            self.signal_count += 1
            probe("kick.sent", self)
