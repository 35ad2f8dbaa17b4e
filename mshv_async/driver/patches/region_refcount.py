"""A reference count for each region and a spinlock for the list, as version 7 has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.region import holds_gfn
from mshv_async.driver.remap import partition_of
from mshv_async.sim import Refcount, SpinLock, warn

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition, MshvVp
    from mshv_async.host import Mm


class RegionRefcount(V6):
    """A virtual processor's thread takes a reference under the list lock before it uses a region.

    Unmap unlinks and drops the list's reference; whoever drops the last one, an unmapping or a
    faulting thread, destroys the region.
    """

    def new_partition(self, pt_id: int, mm: Mm) -> MshvPartition:
        """Allocate a partition with a list lock."""
        partition = super().new_partition(pt_id, mm)
        partition.pt_mem_regions_lock = SpinLock(
            f"{partition.name}.pt_mem_regions_lock", "pt_mem_regions_lock"
        )
        return partition

    def new_region(self, guest_pfn: int) -> MshvMemRegion:
        """Allocate a region with one reference, its creator's."""
        region = super().new_region(guest_pfn)
        region.mreg_refcount = Refcount(f"{region.name}.refcount")
        return region

    def list_lock(self, partition: MshvPartition) -> SpinLock:
        """Return the lock of the region list."""
        lock = partition.pt_mem_regions_lock
        assert lock is not None
        return lock

    def region_get(self, region: MshvMemRegion) -> bool:
        """Take a reference unless the last one is gone."""
        assert region.mreg_refcount is not None
        return region.mreg_refcount.inc_not_zero()

    async def region_put(self, region: MshvMemRegion) -> None:
        """Drop a reference; the last one destroys the region, which sleeps."""
        assert region.mreg_refcount is not None
        if region.mreg_refcount.dec_and_test():
            await self.region_release(region)

    async def partition_region_by_gfn(
        self, partition: MshvPartition, gfn: int
    ) -> MshvMemRegion | None:
        """Return the region that holds ``gfn``; only the partition mutex keeps it alive."""
        lock = self.list_lock(partition)
        await lock.lock()
        region = find_region(partition, gfn)
        lock.unlock()
        return region

    async def partition_region_by_gfn_get(
        self, partition: MshvPartition, gfn: int
    ) -> MshvMemRegion | None:
        """Return the region that holds ``gfn`` with a reference taken, or None."""
        lock = self.list_lock(partition)
        await lock.lock()
        region = find_region(partition, gfn)
        if region is not None and not self.region_get(region):
            region = None
        lock.unlock()
        return region

    async def partition_link_region(self, partition: MshvPartition, region: MshvMemRegion) -> None:
        """Insert at the head, under the list lock."""
        lock = self.list_lock(partition)
        await lock.lock()
        partition.pt_mem_regions.add_head(region)
        lock.unlock()

    async def partition_unlink_region(
        self, partition: MshvPartition, region: MshvMemRegion
    ) -> None:
        """Remove, under the list lock."""
        lock = self.list_lock(partition)
        await lock.lock()
        partition.pt_mem_regions.delete(region)
        lock.unlock()

    async def partition_destroy_region(self, region: MshvMemRegion) -> None:
        """Take the region off the list and drop the list's reference."""
        await self.partition_unlink_region(partition_of(region), region)
        await self.region_put(region)

    async def handle_gpa_intercept(self, vp: MshvVp) -> bool:
        """Serve the memory intercept with a reference on its region."""
        gfn = vp.vp_intercept_msg_page.intercept_message.gfn
        region = await self.partition_region_by_gfn_get(vp.vp_partition, gfn)
        if region is None:
            return False
        handled = False
        if not region.is_ram:
            warn("handle_gpa_intercept: not RAM")
        elif region.range_pinned:
            warn("handle_gpa_intercept: pinned region")
        else:
            handled = await self.region_handle_gfn_fault(region, gfn)
        await self.region_put(region)
        return handled


def find_region(partition: MshvPartition, gfn: int) -> MshvMemRegion | None:
    """Search the list; the caller holds its lock."""
    for region in partition.pt_mem_regions.regions():
        if holds_gfn(region, gfn):
            return region
    return None


PATCH = Patch(
    name="region-refcount",
    summary="Count references on regions and lock the region list",
    bugs=("D01", "D02"),
    variants=(Variant(RegionRefcount, on=("v6",)),),
    extends=("new_partition", "new_region"),
)
