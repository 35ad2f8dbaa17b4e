"""Virtual processors whose instructions come from a test instead of a program."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mshv_async.vmm import VpThread

if TYPE_CHECKING:
    from mshv_async.guest import GuestAccess, GuestProcessor, Operation
    from mshv_async.sim import Tag, Thread
    from mshv_async.vmm import VmmProcess
    from mshv_async.vmm.process import Process


class CallSource:
    """What a driven guest executes: the access of the call under way, else it halts."""

    forever = False

    def __init__(self) -> None:
        self._at = -1
        self._access: GuestAccess | None = None

    def give(self, position: int, access: GuestAccess) -> None:
        """Let the guest find an access at a position."""
        self._at, self._access = position, access

    def at(self, position: int) -> Operation | None:
        """Return the operation at a position; None: the guest halts."""
        return self._access if position == self._at else None

    def after(self, position: int) -> int:
        """Return the position that follows."""
        return position + 1


class DrivenGuest:
    """One virtual processor: a call runs it until its access is over and it halts.

    `process`: whose threads call RUN_VP, the VMM's or that of the process that has its descriptor.
    """

    def __init__(
        self, vmm: VmmProcess, process: Process, guest: GuestProcessor, source: CallSource
    ) -> None:
        self.vmm = vmm
        self.process = process
        self.guest = guest
        self.source = source
        self.index = guest.vp.index
        self._seen: Tag | int | None = None

    def accessed(self, tag: Tag | int) -> None:
        """Take down what an access read or wrote."""
        self._seen = tag

    def _prepare(self, thread: Thread, access: GuestAccess) -> None:
        """Give the guest its access, and let it work for the calling thread."""
        guest, processor = self.guest, self.guest.vp.guest
        assert processor is not None
        self._seen = None
        guest.position += 1  # past the halt that it stands at
        self.source.give(guest.position, access)
        guest.look_again()
        processor.work_for(thread)
        self.vmm.vp_threads[self.index] = thread
        thread.owes_progress(1)

    async def run(self, thread: Thread, access: GuestAccess) -> Tag | int:
        """Run the processor as a thread of the VMM does, in RUN_VP.

        Returns what was read or written; -EFAULT if the access was left unhandled, -EINTR if the
        process was killed first.
        """
        self._prepare(thread, access)
        await VpThread(self.vmm, self.process, self.index, self.guest).run()
        if self._seen is not None:
            return self._seen
        return -errno.EINTR if thread.fatal_pending else -errno.EFAULT
