"""The VMM's thread for one virtual processor: RUN_VP, and what to do with its exits."""

from __future__ import annotations

from errno import EINTR
from typing import TYPE_CHECKING, Protocol

from mshv_async.driver import VpIoctl
from mshv_async.hyperv import HvMessageType
from mshv_async.sim import checked_call, cond_resched, current, note, probe

if TYPE_CHECKING:
    from mshv_async.driver import MshvVp
    from mshv_async.hyperv import InterceptMessage
    from mshv_async.vmm.process import VmmProcess


class Source(Protocol):
    """What a guest executes; ``forever``: it never ends."""

    @property
    def forever(self) -> bool: ...


class Guest(Protocol):
    """The processor's instructions, as far as an exit concerns them."""

    @property
    def source(self) -> Source:
        """Return the guest's program."""
        ...

    def skip(self) -> None:
        """End the refused access without its effect."""
        ...


class VpThread:
    """Runs one virtual processor until its guest halts or a fatal signal comes."""

    __slots__ = ("guest", "vmm", "vp")

    def __init__(self, vmm: VmmProcess, vp: MshvVp, guest: Guest) -> None:
        self.vmm = vmm
        self.vp = vp
        self.guest = guest

    async def run(self) -> None:
        """Call RUN_VP for each exit; an error other than a fatal signal is tried again."""
        thread = current()
        driver = self.vmm.driver
        while True:
            ret, message = await checked_call("ioctl", driver.vp_ioctl(self.vp, VpIoctl.RUN_VP))
            if thread.fatal_pending:
                note("vp.killed", vp=self.vp.vp_index, ret=ret)
                return
            if message is None:
                note("ioctl.return", ioctl="run_vp", vp=self.vp.vp_index, ret=ret)
                assert ret != -EINTR, "only fatal signals are modelled"
                await cond_resched()
            elif message.type is HvMessageType.HALT:
                return
            else:
                self._handle_exit(message)

    def _handle_exit(self, message: InterceptMessage) -> None:
        """Treat a memory exit as a device access, as VMMs do: the access has no effect."""
        note(
            "vmm.exit",
            vp=self.vp.vp_index,
            type=message.type.name,
            access=message.access.name,
            gfn=message.gfn,
        )
        if message.is_memory:
            probe("guest.unhandled", self.vp.vp_intercept_msg_page, message)
            self.guest.skip()
