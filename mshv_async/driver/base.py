"""What every version of the driver is built on: machine, configuration, factories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.abi import POINTER_BYTES
from mshv_async.driver.structures import MshvMemRegion, MshvPartition, MshvRoot, MshvVp
from mshv_async.host import unpin_user_pages
from mshv_async.hyperv import SchedulerType
from mshv_async.sim import kfree, kzalloc, probe

if TYPE_CHECKING:
    from mshv_async.host import HostMemory, Mm
    from mshv_async.hyperv import Hypervisor, VirtualProcessor


class DriverBase:
    """References and configuration; no mutable state, so one instance serves every thread.

    ``scheduler``: who schedules virtual processors. ``mmu_notifier``: whether the kernel has
    MMU notifiers; without them every region is pinned. ``arch``: only ``x86_64`` handles memory
    intercepts (spec.md 4.4).
    """

    def __init__(
        self,
        hv: Hypervisor,
        host_mem: HostMemory,
        *,
        scheduler: SchedulerType = SchedulerType.ROOT,
        mmu_notifier: bool = True,
        arch: str = "x86_64",
    ) -> None:
        self.hv = hv
        self.host_mem = host_mem
        self.scheduler = scheduler
        self.mmu_notifier = mmu_notifier
        self.arch = arch
        self.mshv_root = MshvRoot()

    def page_pin_release(self, runs: list[tuple[int, int]]) -> None:
        """Give pinned frames back."""
        unpin_user_pages(self.host_mem, runs)

    def new_partition(self, pt_id: int, mm: Mm) -> MshvPartition:
        """Allocate a partition object, zeroed but for its locks."""
        return kzalloc(MshvPartition, f"partition{pt_id}", pt_id, mm)

    def new_vp(self, partition: MshvPartition, index: int, page: VirtualProcessor) -> MshvVp:
        """Allocate a virtual processor's object with its mutex and queue initialised."""
        return kzalloc(MshvVp, f"vp{index}", partition, index, page)

    def new_region(self, guest_pfn: int) -> MshvMemRegion:
        """Allocate a zeroed region object; it is named for its first gfn.

        A later one at the same gfn has a number behind that, as in ``region@0x200#2``.
        """
        made = self.mshv_root.regions_made
        nth = (made.get(guest_pfn) or 0) + 1
        made[guest_pfn] = nth
        return kzalloc(MshvMemRegion, f"region@{guest_pfn:#x}" + (f"#{nth}" if nth > 1 else ""))

    async def region_free(self, region: MshvMemRegion) -> None:
        """Free the region object, with all that is embedded in it (``vfree``)."""
        nbytes = region.nr_pages * POINTER_BYTES
        await kfree(region)
        probe("driver.free", region, nbytes, "region")
