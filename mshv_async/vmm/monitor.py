"""The VMM: a process with a partition, the ioctls of its threads, and who runs the processors."""

from __future__ import annotations

from errno import EBADF
from typing import TYPE_CHECKING

from mshv_async.driver import (
    HV_HYP_PAGE_SHIFT,
    HV_HYP_PAGE_SIZE,
    MSHV_SET_MEM_EXECUTABLE,
    MSHV_SET_MEM_UNMAP,
    MSHV_SET_MEM_WRITABLE,
    MshvUserMemRegion,
    PartitionIoctl,
)
from mshv_async.host import mmap_fixed
from mshv_async.sim import checked_call, current, note, point, probe, step
from mshv_async.vmm.files import File, fput
from mshv_async.vmm.process import Process
from mshv_async.vmm.thread import ScenarioThread
from mshv_async.vmm.vp_thread import VpThread

if TYPE_CHECKING:
    from mshv_async.driver import V6, MshvPartition, MshvVp
    from mshv_async.host import Mm
    from mshv_async.sim import Runtime, Thread
    from mshv_async.vmm.operations import AddressTable, Operation, Program
    from mshv_async.vmm.vp_thread import Guest, MakeGuest

_FLAGS = {"writable": MSHV_SET_MEM_WRITABLE, "executable": MSHV_SET_MEM_EXECUTABLE}


class VmmProcess(Process):
    """A virtual machine monitor with one partition.

    ``vp_threads``: the thread that runs each processor, by index; ``guests`` what they run.
    ``known``: the argument of the last map ioctl for each first gfn, kept for the unmap, which
    must repeat it exactly. ``others``: further processes, by name.
    """

    __slots__ = ("addresses", "guests", "known", "others", "partition", "vp_threads")
    _const = (*Process._const, "addresses", "others", "partition", "vp_threads")  # type: ignore[assignment]
    _sync = True

    def __init__(
        self, mm: Mm, driver: V6, partition: MshvPartition, addresses: AddressTable
    ) -> None:
        super().__init__("vmm", mm, driver)
        self.partition = partition
        self.addresses = addresses
        self.others: dict[str, Process] = {}
        self.vp_threads: dict[int, Thread] = {}
        self.guests: tuple[Guest, ...] = ()
        self.known: dict[int, MshvUserMemRegion] = {
            region.start_gfn: MshvUserMemRegion(
                region.nr_pages << HV_HYP_PAGE_SHIFT, region.start_gfn, region.start_uaddr
            )
            for region in partition.pt_mem_regions.regions()
        }
        array = partition.pt_vp_array
        self.files.table = (
            File("partition", partition, None, 1),
            *[File("vp", array[index], index, 1) for index in array],
        )
        partition.pt_install_fd = self.install_vp

    # -- threads ---------------------------------------------------------------------------

    def start_vp(
        self, rt: Runtime, index: int, guest: Guest, process: Process | None = None
    ) -> Thread:
        """Create thread ``vp<index>``, which runs that processor until the guest halts.

        ``process``: another one than the VMM, into which its descriptor is duplicated.
        """
        owner = process or self
        file = self.files.get(self.files.fd_of("vp", index))
        assert file is not None, "the processor exists"
        if process is not None:
            process.files.install(file)
        body = VpThread(self, owner, index, guest)
        thread = rt.spawn(f"vp{index}", body.run, forever=guest.source.forever, kind="vp")
        self.vp_threads[index] = owner.join(thread)
        self.guests = (*self.guests, guest)
        return thread

    def start_late_vp(
        self, rt: Runtime, index: int, make_guest: MakeGuest, process: Process | None = None
    ) -> Thread:
        """Create thread ``vp<index>`` for a processor that a program creates.

        It begins with the descriptor's appearance, wherever the ioctl stands by then. Until then
        nobody waits for it.
        """
        owner = process or self
        body = VpThread(self, owner, index, None, make_guest)
        thread = rt.spawn(f"vp{index}", body.run_late, daemon=True, kind="vp", first=body.op_wait)
        self.vp_threads[index] = owner.join(thread)
        return thread

    def start_thread(
        self,
        rt: Runtime,
        name: str,
        kind: str,
        program: Program,
        process: Process | None = None,
    ) -> Thread:
        """Create a thread that executes a program; ``kind`` as in the scenario."""
        owner = process or self
        body = ScenarioThread(self, owner, name, program)
        return owner.join(rt.spawn(name, body.run, forever=program.forever, kind=kind))

    def process(self, name: str | None) -> Process:
        """Return a process by name; None and ``vmm``: this one."""
        return self if name is None or name == self.name else self.others[name]

    def install_vp(self, vp: MshvVp) -> int:
        """Open a file for a new processor in the current process; its thread can begin.

        That thread's process, if it is another one, gets a duplicate at once.
        """
        index = vp.vp_index
        file = File("vp", vp, index)
        here = next(p for p in (self, *self.others.values()) if p.mm is current().mm)
        fd = here.files.install(file)
        thread = self.vp_threads.get(index)
        if thread is not None:
            thread.daemon = False
            if thread.mm is not None and thread.mm is not here.mm:
                owner = next(p for p in self.others.values() if p.mm is thread.mm)
                owner.files.install(file)
        return fd

    # -- ioctls ----------------------------------------------------------------------------

    async def create_vp(self, process: Process, index: int) -> int:
        """Create a virtual processor: CREATE_VP on the partition's descriptor; the new one."""
        file = process.fget(process.files.fd_of("partition"))
        if file is None:
            return -EBADF
        thread = current()
        probe("ioctl.begin", thread, "create_vp", index)
        note("ioctl.begin", ioctl="create_vp", vp=index)
        call = self.driver.partition_ioctl(file.object, PartitionIoctl.CREATE_VP, index)
        ret = await checked_call("ioctl", call)
        probe("ioctl.return", thread, "create_vp", ret, index)
        note("ioctl.return", ioctl="create_vp", vp=index, ret=ret)
        await fput(file, self.driver)
        return ret

    async def map(self, process: Process, op: Operation) -> int:
        """Give guest pages memory: a VMA unless there is one, then SET_GUEST_MEMORY."""
        assert op.gfn is not None
        uaddr = op.uaddr if op.uaddr is not None else self.addresses.address(op.gfn, op.pages)
        size = op.pages << HV_HYP_PAGE_SHIFT
        await _provide_vma(process.mm, uaddr, size, op.backing)
        flags = sum(_FLAGS[flag] for flag in op.flags)
        mem = MshvUserMemRegion(size, op.gfn, uaddr, flags)
        self.known = {**self.known, op.gfn: mem}
        return await self._set_guest_memory(process, "map_user_memory", mem)

    async def unmap(self, process: Process, op: Operation) -> int:
        """Take guest memory away again, with the arguments of its map; the VMA stays."""
        assert op.gfn is not None
        mapped = self.known.get(op.gfn)
        if mapped is None:
            mapped = MshvUserMemRegion(HV_HYP_PAGE_SIZE, op.gfn, 0)
        mem = MshvUserMemRegion(
            mapped.size, mapped.guest_pfn, mapped.userspace_addr, MSHV_SET_MEM_UNMAP
        )
        return await self._set_guest_memory(process, "unmap_user_memory", mem)

    async def _set_guest_memory(self, process: Process, name: str, mem: MshvUserMemRegion) -> int:
        file = process.fget(process.files.fd_of("partition"))
        if file is None:
            return -EBADF
        thread = current()
        probe("ioctl.begin", thread, name, mem)
        note("ioctl.begin", ioctl=name, gfn=mem.guest_pfn, bytes=mem.size)
        call = self.driver.partition_ioctl(file.object, PartitionIoctl.SET_GUEST_MEMORY, mem)
        ret = await checked_call("ioctl", call)
        probe("ioctl.return", thread, name, ret, mem)
        note("ioctl.return", ioctl=name, gfn=mem.guest_pfn, ret=ret)
        await fput(file, self.driver)
        return ret

    # -- signals ---------------------------------------------------------------------------

    async def signal(self, index: int) -> int:
        """Send the thread of a processor a signal that does not kill."""
        await step("signal.send", self.mm, write=True)
        self.vp_threads[index].signal()
        note("vmm.signal", vp=index)
        return 0


async def _provide_vma(mm: Mm, uaddr: int, size: int, backing: str) -> None:
    lo, hi = uaddr >> HV_HYP_PAGE_SHIFT, (uaddr + size) >> HV_HYP_PAGE_SHIFT
    await point("vmm.find_vma", mm.vmas, lo, hi, write=False)
    if mm.vmas.runs(lo, hi):
        return
    ret = await checked_call("syscall", mmap_fixed(mm, uaddr, size, "rw", backing=backing))
    note("vmm.mmap", uaddr=uaddr, bytes=size, ret=ret)
