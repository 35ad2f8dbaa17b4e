"""Partition and virtual processor ioctls: create, initialise, destroy (spec.md 4.1, 4.2, 4.6).

Encrypted partitions and the ioctls for interrupts, properties and registers are not modelled.
"""

from __future__ import annotations

from errno import EEXIST, EINTR, EINVAL, ENOMEM, ENOTTY
from typing import TYPE_CHECKING

from mshv_async.driver.abi import (
    HV_CREATE_VP_DEPOSIT_PAGES,
    HV_INIT_PARTITION_DEPOSIT_PAGES,
    MSHV_MAX_VPS,
    MshvUserMemRegion,
    PartitionIoctl,
    VpIoctl,
)
from mshv_async.driver.run_vp import RunVp
from mshv_async.hyperv import (
    HvCall,
    HvRegister,
    HvResult,
    HvStatus,
    RegisterValue,
    SchedulerType,
    status_to_errno,
)
from mshv_async.sim import current, irq_restore, irq_save, kfree, step, warn

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvPartition, MshvVp
    from mshv_async.hyperv import InterceptMessage


class PartitionIoctls(RunVp):
    """What the descriptors of the device, a partition and a virtual processor can do."""

    async def partition_ioctl(
        self,
        partition: MshvPartition,
        ioctl: PartitionIoctl,
        arg: MshvUserMemRegion | int | None = None,
    ) -> int:
        """Take the partition mutex (killable: -EINTR), do one ioctl; -ENOTTY for an unknown."""
        if await partition.pt_mutex.lock_killable():
            return -EINTR
        if ioctl is PartitionIoctl.INITIALIZE:
            ret = await self.partition_ioctl_initialize(partition)
        elif ioctl is PartitionIoctl.SET_GUEST_MEMORY and isinstance(arg, MshvUserMemRegion):
            ret = await self.partition_ioctl_set_memory(partition, arg)
        elif ioctl is PartitionIoctl.CREATE_VP and isinstance(arg, int):
            ret = await self.partition_ioctl_create_vp(partition, arg)
        else:
            ret = -ENOTTY
        await partition.pt_mutex.unlock()
        return ret

    async def vp_ioctl(self, vp: MshvVp, ioctl: VpIoctl) -> tuple[int, InterceptMessage | None]:
        """Take the VP mutex (killable: -EINTR) and do one ioctl, all of RUN_VP included."""
        if await vp.vp_mutex.lock_killable():
            return -EINTR, None
        if ioctl is VpIoctl.RUN_VP:
            ret, message = await self.vp_ioctl_run_vp(vp)
        else:
            ret, message = -ENOTTY, None
        await vp.vp_mutex.unlock()
        return ret, message

    # -- creation --------------------------------------------------------------------------

    async def ioctl_create_partition(self) -> tuple[int, MshvPartition | None]:
        """Create an uninitialised partition for the current process; 0 and it, or an errno."""
        while True:
            result = await self.hv_call(HvCall.CREATE_PARTITION, self.hv.root.id)
            if not self.hv_result_needs_memory(result.status):
                break
            ret = await self.hv_deposit_memory(self.hv.root.id, result.status)
            if ret:
                return ret, None
        if result.status is not HvStatus.SUCCESS:
            return status_to_errno(result.status), None
        partition = self.new_partition(result.partition_id, current().mm)
        await step("partition.publish", self.mshv_root.pt_htable, write=True)
        self.publish_partition(partition)
        return 0, partition

    def publish_partition(self, partition: MshvPartition) -> None:
        """Let the interrupt handler find the partition by its id."""
        self.mshv_root.pt_htable[partition.pt_id] = partition
        self.hv.set_isr(self.intercept_isr)

    async def partition_ioctl_initialize(self, partition: MshvPartition) -> int:
        """Deposit 208 pages and initialise; a second time does nothing."""
        if partition.pt_initialized:
            return 0
        ret = await self.hv_call_deposit_pages(partition.pt_id, HV_INIT_PARTITION_DEPOSIT_PAGES)
        if not ret:
            ret = await self.hv_call_depositing(HvCall.INITIALIZE, partition.pt_id)
        if not ret:
            partition.pt_initialized = True
        return ret

    async def partition_ioctl_create_vp(self, partition: MshvPartition, index: int) -> int:
        """Create a virtual processor and return its descriptor.

        -EINVAL: bad index, -EEXIST: there is one, -ENOMEM: no file, or the hypercall's errno.
        """
        if not 0 <= index < MSHV_MAX_VPS:
            return -EINVAL
        if partition.pt_vp_array.get(index) is not None:
            return -EEXIST
        ret = await self.hv_call_deposit_pages(partition.pt_id, HV_CREATE_VP_DEPOSIT_PAGES)
        if not ret:
            ret = await self.hv_call_depositing(HvCall.CREATE_VP, partition.pt_id, index)
        if ret:
            return ret
        if not await self.host_mem.might_alloc(1, "vp"):
            await self.hv_call(HvCall.DELETE_VP, partition.pt_id, index)
            return ret  # still 0: the error code is missing (G06)
        vp = self.make_vp(partition, index)
        ret = await self.vp_publish(partition, vp)
        if ret < 0:
            partition.pt_ref_count.dec_and_test()  # not the last one: the ioctl's file has another
            await kfree(vp)
            await self.hv_call(HvCall.DELETE_VP, partition.pt_id, index)
        return ret

    async def vp_publish(self, partition: MshvPartition, vp: MshvVp) -> int:
        """Give the VP its descriptor and then its place in the array; the descriptor or -errno.

        From the descriptor on user space can run it, but the interrupt handler looks in the
        array (G01).
        """
        fd = await self.anon_inode_getfd(partition, vp)
        if fd < 0:
            return fd
        await step("vp.publish", partition.pt_vp_array, write=True)
        partition.pt_vp_array[vp.vp_index] = vp
        return fd

    async def anon_inode_getfd(self, partition: MshvPartition, vp: MshvVp) -> int:
        """Open a file for the VP in the current process; its descriptor, or -ENOMEM."""
        if not await self.host_mem.might_alloc(1, "vp.file"):
            return -ENOMEM
        await step("vp.install_fd", vp, write=True)
        return 0 if partition.pt_install_fd is None else partition.pt_install_fd(vp)

    def make_vp(self, partition: MshvPartition, index: int) -> MshvVp:
        """Make the driver's object of a processor that the hypervisor has, and count it."""
        hv_partition = self.hv.partition(partition.pt_id)
        assert hv_partition is not None
        vp = self.new_vp(partition, index, hv_partition.vps[index])
        partition.pt_ref_count.inc()
        return vp

    async def hv_call_depositing(self, code: HvCall, partition_id: int, vp_index: int = 0) -> int:
        """Issue a call, depositing each time that it runs short; 0 or an errno."""
        while True:
            result = await self.hv_call(code, partition_id, vp_index)
            if not self.hv_result_needs_memory(result.status):
                return status_to_errno(result.status)
            ret = await self.hv_deposit_memory(partition_id, result.status)
            if ret:
                return ret

    async def hv_call(self, code: HvCall, partition_id: int, vp_index: int = 0) -> HvResult:
        """Issue one simple call."""
        irq_save()
        result = await self.hv.call(code, partition_id, vp_index=vp_index)
        irq_restore()
        return result

    # -- the end ---------------------------------------------------------------------------

    async def vp_release(self, vp: MshvVp) -> None:
        """Drop the VP's reference on its partition: its last descriptor is closed.

        The VP itself stays until the partition goes.
        """
        await self.partition_put(vp.vp_partition)

    async def partition_release(self, partition: MshvPartition) -> None:
        """Drop the reference of the partition's descriptor: it is closed for good."""
        await self.partition_put(partition)

    async def partition_put(self, partition: MshvPartition) -> None:
        """Drop a reference; the last one destroys the partition, which sleeps."""
        if partition.pt_ref_count.dec_and_test():
            await self.destroy_partition(partition)

    async def destroy_partition(self, partition: MshvPartition) -> None:
        """Tear the partition down after its last reference went away.

        Regions go after FINALIZE: a notifier that fires in between finds a partition that takes
        no mapping any more (spec.md 4.6).
        """
        await self.destroy_vps(partition)
        await self.finalize_partition(partition)
        await self.unpublish_partition(partition)
        await self.destroy_regions(partition)
        await self.hv_call_withdraw_memory(partition.pt_id)
        await self.hv_call(HvCall.DELETE, partition.pt_id)
        await kfree(partition)

    async def destroy_vps(self, partition: MshvPartition) -> None:
        """Stop the VPs, wait for signals that are under way (root scheduler), free them."""
        if not partition.pt_initialized:
            return
        if self.scheduler is SchedulerType.ROOT:
            for vp in partition.pt_vp_array.values():
                await self.drain_vp(vp)
        for index in partition.pt_vp_array:
            vp_gone = partition.pt_vp_array.pop(index)
            assert vp_gone is not None
            await kfree(vp_gone)

    async def finalize_partition(self, partition: MshvPartition) -> None:
        """Let the hypervisor forget the partition's processors and mappings."""
        if partition.pt_initialized:
            await self.hv_call(HvCall.FINALIZE, partition.pt_id)

    async def unpublish_partition(self, partition: MshvPartition) -> None:
        """Take the partition out of the interrupt handler's sight; waits for its readers."""
        await step("partition.unpublish", self.mshv_root.pt_htable, write=True)
        self.mshv_root.pt_htable.pop(partition.pt_id)
        await self.mshv_root.rcu.synchronize()

    async def destroy_regions(self, partition: MshvPartition) -> None:
        """Destroy all regions, the newest first."""
        region = partition.pt_mem_regions.first
        while region is not None:
            await self.partition_destroy_region(region)
            region = partition.pt_mem_regions.first

    async def drain_vp(self, vp: MshvVp) -> None:
        """Stop the VP's dispatch and wait until every signal for it has arrived."""
        await self.hv_call_set_vp_registers(vp, RegisterValue(HvRegister.DISPATCH_SUSPEND, 1))
        result = await self.hv_vp_call(
            vp, HvCall.GET_VP_REGISTERS, (RegisterValue(HvRegister.VP_ROOT_SIGNAL_COUNT, 0),)
        )
        if result.status is not HvStatus.SUCCESS:
            return
        sent = result.registers[0].value
        if sent != vp.vp_signaled_count:
            if sent - vp.vp_signaled_count != 1:
                warn("drain_vp: signal counts differ by more than one")
            await vp.vp_suspend_queue.wait_event(vp.drained)

    # -- set-up, without points ------------------------------------------------------------

    def setup_partition(self, pt_id: int, partition: MshvPartition) -> None:
        """Publish a partition that was set up directly, with all processors it has."""
        hv_partition = self.hv.partition(pt_id)
        assert hv_partition is not None
        partition.pt_initialized = True
        self.publish_partition(partition)
        for index in hv_partition.vps:
            partition.pt_vp_array[index] = self.make_vp(partition, index)
