"""The VMM's process: its address space, its partition, and the threads of a scenario."""

from __future__ import annotations

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
from mshv_async.sim import Shared, checked_call, current, note, point, probe, step
from mshv_async.vmm.thread import ScenarioThread
from mshv_async.vmm.vp_thread import VpThread

if TYPE_CHECKING:
    from mshv_async.driver import V6, MshvPartition
    from mshv_async.host import Mm
    from mshv_async.sim import Runtime, Thread
    from mshv_async.vmm.operations import AddressTable, Operation, Program
    from mshv_async.vmm.vp_thread import Guest

_FLAGS = {"writable": MSHV_SET_MEM_WRITABLE, "executable": MSHV_SET_MEM_EXECUTABLE}

OF_THE_PROCESS = frozenset({"vmm", "host", "vp"})
"""Kinds of threads that live in the VMM's process: its mm is theirs, and ``kill`` reaches them."""


class VmmProcess(Shared):
    """A virtual machine monitor with one partition.

    ``vp_threads``: the thread that runs each processor, by index. ``known``: the argument of the
    last map ioctl for each first gfn, kept for the unmap, which must repeat it exactly.
    """

    __slots__ = ("addresses", "driver", "known", "mm", "partition", "vp_threads")
    _const = ("addresses", "driver", "mm", "partition", "vp_threads")
    _sync = True

    def __init__(
        self, mm: Mm, driver: V6, partition: MshvPartition, addresses: AddressTable
    ) -> None:
        super().__init__("vmm")
        self.mm = mm
        self.driver = driver
        self.partition = partition
        self.addresses = addresses
        self.vp_threads: dict[int, Thread] = {}
        self.known: dict[int, MshvUserMemRegion] = {
            region.start_gfn: MshvUserMemRegion(
                region.nr_pages << HV_HYP_PAGE_SHIFT, region.start_gfn, region.start_uaddr
            )
            for region in partition.pt_mem_regions.regions()
        }

    # -- threads ---------------------------------------------------------------------------

    def start_vp(self, rt: Runtime, index: int, guest: Guest) -> Thread:
        """Create thread ``vp<index>``, which runs that processor until the guest halts."""
        body = VpThread(self, self.partition.pt_vp_array[index], guest)
        thread = self._join(
            rt.spawn(f"vp{index}", body.run, forever=guest.source.forever, kind="vp")
        )
        self.vp_threads[index] = thread
        return thread

    def start_thread(self, rt: Runtime, name: str, kind: str, program: Program) -> Thread:
        """Create a thread that executes a program; ``kind`` as in the scenario."""
        body = ScenarioThread(self, name, program)
        return self._join(rt.spawn(name, body.run, forever=program.forever, kind=kind))

    def _join(self, thread: Thread) -> Thread:
        if thread.kind in OF_THE_PROCESS:
            thread.mm = self.mm
            self.mm.threads.append(thread)
        return thread

    # -- ioctls ----------------------------------------------------------------------------

    async def map(self, op: Operation) -> int:
        """Give guest pages memory: a VMA unless there is one, then SET_GUEST_MEMORY."""
        assert op.gfn is not None
        uaddr = op.uaddr if op.uaddr is not None else self.addresses.address(op.gfn, op.pages)
        size = op.pages << HV_HYP_PAGE_SHIFT
        await self._provide_vma(uaddr, size)
        flags = sum(_FLAGS[flag] for flag in op.flags)
        mem = MshvUserMemRegion(size, op.gfn, uaddr, flags)
        self.known = {**self.known, op.gfn: mem}
        return await self._set_guest_memory("map_user_memory", mem)

    async def unmap(self, op: Operation) -> int:
        """Take guest memory away again, with the arguments of its map; the VMA stays."""
        assert op.gfn is not None
        mapped = self.known.get(op.gfn)
        if mapped is None:
            mapped = MshvUserMemRegion(HV_HYP_PAGE_SIZE, op.gfn, 0)
        mem = MshvUserMemRegion(
            mapped.size, mapped.guest_pfn, mapped.userspace_addr, MSHV_SET_MEM_UNMAP
        )
        return await self._set_guest_memory("unmap_user_memory", mem)

    async def _provide_vma(self, uaddr: int, size: int) -> None:
        lo, hi = uaddr >> HV_HYP_PAGE_SHIFT, (uaddr + size) >> HV_HYP_PAGE_SHIFT
        await point("vmm.find_vma", self.mm.vmas, lo, hi, write=False)
        if self.mm.vmas.runs(lo, hi):
            return
        ret = await checked_call("syscall", mmap_fixed(self.mm, uaddr, size, "rw"))
        note("vmm.mmap", uaddr=uaddr, bytes=size, ret=ret)

    async def _set_guest_memory(self, name: str, mem: MshvUserMemRegion) -> int:
        thread = current()
        probe("ioctl.begin", thread, name, mem)
        note("ioctl.begin", ioctl=name, gfn=mem.guest_pfn, bytes=mem.size)
        call = self.driver.partition_ioctl(self.partition, PartitionIoctl.SET_GUEST_MEMORY, mem)
        ret = await checked_call("ioctl", call)
        probe("ioctl.return", thread, name, ret, mem)
        note("ioctl.return", ioctl=name, gfn=mem.guest_pfn, ret=ret)
        return ret

    # -- signals ---------------------------------------------------------------------------

    async def kill(self) -> int:
        """Send a fatal signal to the process; it reaches each of its threads at once."""
        await step("signal.kill", self.mm, write=True)
        for thread in self.mm.threads:
            thread.signal_fatal()
        note("vmm.kill")
        return 0
