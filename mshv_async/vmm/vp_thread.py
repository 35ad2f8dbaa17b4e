"""The thread for one virtual processor: RUN_VP, and what a VMM does with its exits."""

from __future__ import annotations

from collections.abc import Callable
from errno import EBADF
from typing import TYPE_CHECKING, Protocol

from mshv_async.driver import VpIoctl
from mshv_async.hyperv import HvMessageType
from mshv_async.sim import KILLABLE, Op, checked_call, cond_resched, current, do, note, probe
from mshv_async.vmm.files import fput

if TYPE_CHECKING:
    from mshv_async.hyperv import InterceptMessage, VirtualProcessor
    from mshv_async.sim import Runtime, Thread
    from mshv_async.vmm.monitor import VmmProcess
    from mshv_async.vmm.process import Process


class Source(Protocol):
    """What a guest executes; ``forever``: it never ends."""

    @property
    def forever(self) -> bool: ...


class Guest(Protocol):
    """The processor's instructions, as far as an exit concerns them."""

    @property
    def vp(self) -> VirtualProcessor:
        """Return the processor as the hypervisor has it."""
        ...

    @property
    def source(self) -> Source:
        """Return the guest's program."""
        ...

    def start(self, rt: Runtime, vp_thread: Thread | None = None) -> Thread:
        """Create the thread that executes the program."""
        ...

    def skip(self) -> None:
        """End the refused access without its effect."""
        ...


MakeGuest = Callable[["VirtualProcessor"], Guest]


class VpThread:
    """Runs one virtual processor until its guest halts, its descriptor is gone, or it is killed.

    ``process``: whose thread it is, with the descriptor ``fd``. ``make_guest``: for a processor
    that does not exist yet.
    """

    __slots__ = ("fd", "guest", "index", "make_guest", "op_wait", "process", "vmm")

    def __init__(
        self,
        vmm: VmmProcess,
        process: Process,
        index: int,
        guest: Guest | None,
        make_guest: MakeGuest | None = None,
    ) -> None:
        self.vmm = vmm
        self.process = process
        self.index = index
        self.guest = guest
        self.make_guest = make_guest
        self.fd = process.files.fd_of("vp", index)
        self.op_wait = Op(
            "vmm.await_vp", process.files, write=False, guard=self._created, wait=KILLABLE
        )

    def _created(self, _: Thread) -> bool:
        return self.process.files.fd_of("vp", self.index) is not None

    async def run_late(self) -> None:
        """Wait for the processor's descriptor, bring its guest to life, and run it."""
        assert self.make_guest is not None
        thread = current()
        if await do(self.op_wait):
            self.fd = self.process.files.fd_of("vp", self.index)
            file = self.process.files.get(self.fd)
            assert file is not None
            self.guest = self.make_guest(file.object.vp_intercept_msg_page)
            thread.forever = self.guest.source.forever
            self.guest.start(thread.rt, thread)
            self.vmm.guests = (*self.vmm.guests, self.guest)
        await self.run()

    async def run(self) -> None:
        """Call RUN_VP for each exit; an error, a signal's -EINTR too, is tried again."""
        thread = current()
        driver = self.vmm.driver
        while not thread.fatal_pending:
            thread.take_signal()  # its handler ran on the way back to user space
            file = self.process.fget(self.fd)
            if file is None or file.index != self.index:
                note("ioctl.return", ioctl="run_vp", vp=self.index, ret=-EBADF)
                return
            call = driver.vp_ioctl(file.object, VpIoctl.RUN_VP)
            ret, message = await checked_call("ioctl", call)
            await fput(file, driver)
            if thread.fatal_pending:
                break
            if message is None:
                note("ioctl.return", ioctl="run_vp", vp=self.index, ret=ret)
                await cond_resched()
            elif message.type is HvMessageType.HALT:
                return
            else:
                self._handle_exit(message)
        note("vp.killed", vp=self.index)
        await self.process.leave()

    def _handle_exit(self, message: InterceptMessage) -> None:
        """Treat a memory exit as a device access, as VMMs do: the access has no effect."""
        note(
            "vmm.exit",
            vp=self.index,
            type=message.type.name,
            access=message.access.name,
            gfn=message.gfn,
        )
        if message.is_memory:
            assert self.guest is not None
            probe("guest.unhandled", self.guest.vp, message)
            self.guest.skip()
