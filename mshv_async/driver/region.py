"""Regions: finding them, creating them, destroying them (spec.md 4.2, 4.3, 4.6)."""

from __future__ import annotations

from errno import EEXIST, ENOMEM
from typing import TYPE_CHECKING

from mshv_async.driver.abi import (
    HV_HYP_PAGE_SHIFT,
    MSHV_SET_MEM_EXECUTABLE,
    MSHV_SET_MEM_WRITABLE,
    POINTER_BYTES,
    MshvUserMemRegion,
)
from mshv_async.driver.cint import u64_add, u64_shl, u64_sub
from mshv_async.driver.invalidate import RegionInvalidate
from mshv_async.driver.remap import partition_of
from mshv_async.driver.structures import next_region
from mshv_async.hyperv import (
    MAP_ADJUSTABLE,
    MAP_EXECUTABLE,
    MAP_READABLE,
    MAP_WRITABLE,
    Access,
)
from mshv_async.sim import probe, step

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition


class RegionObjects(RegionInvalidate):
    """The region list and the life of a region object."""

    async def partition_region_by_gfn(
        self, partition: MshvPartition, gfn: int
    ) -> MshvMemRegion | None:
        """Return the region that holds ``gfn``, or None; walks the list without a lock (D02)."""
        await step("region.lookup", partition.pt_mem_regions)
        region = partition.pt_mem_regions.first
        while region is not None:
            if holds_gfn(region, gfn):
                return region
            await step("region.lookup", partition.pt_mem_regions)
            region = next_region(region)
        return None

    async def partition_region_by_uaddr(
        self, partition: MshvPartition, uaddr: int
    ) -> MshvMemRegion | None:
        """Return the region whose host addresses hold ``uaddr`` (bytes), or None."""
        await step("region.lookup", partition.pt_mem_regions)
        region = partition.pt_mem_regions.first
        while region is not None:
            size = u64_shl(region.nr_pages, HV_HYP_PAGE_SHIFT)
            if region.start_uaddr <= uaddr < u64_add(region.start_uaddr, size):
                return region
            await step("region.lookup", partition.pt_mem_regions)
            region = next_region(region)
        return None

    async def partition_link_region(self, partition: MshvPartition, region: MshvMemRegion) -> None:
        """Insert the region at the head of the list, under the partition mutex only."""
        await step("region.link", partition.pt_mem_regions, write=True)
        partition.pt_mem_regions.add_head(region)

    async def partition_unlink_region(
        self, partition: MshvPartition, region: MshvMemRegion
    ) -> None:
        """Remove the region from the list, under the partition mutex only."""
        await step("region.unlink", partition.pt_mem_regions, write=True)
        partition.pt_mem_regions.delete(region)

    async def partition_region_overlaps(
        self, partition: MshvPartition, mem: MshvUserMemRegion
    ) -> bool:
        """Say whether an end of the new range, by gfn or by address, lies in a region.

        A range that encloses a region is not noticed (D08).
        """
        last_gfn = u64_sub(u64_add(mem.guest_pfn, mem.size >> HV_HYP_PAGE_SHIFT), 1)
        last_uaddr = u64_sub(u64_add(mem.userspace_addr, mem.size), 1)
        return (
            await self.partition_region_by_gfn(partition, mem.guest_pfn) is not None
            or await self.partition_region_by_gfn(partition, last_gfn) is not None
            or await self.partition_region_by_uaddr(partition, mem.userspace_addr) is not None
            or await self.partition_region_by_uaddr(partition, last_uaddr) is not None
        )

    async def partition_create_region(
        self, partition: MshvPartition, mem: MshvUserMemRegion, is_mmio: bool = False
    ) -> tuple[int, MshvMemRegion | None]:
        """Allocate a region and choose its kind; the caller maps it and puts it on the list.

        Returns 0 and the region, or -EEXIST (overlap), -ENOMEM. The notifier goes live here,
        before the partition pointer is set (D06).
        """
        if await self.partition_region_overlaps(partition, mem):
            return -EEXIST, None
        if not await self.region_alloc():
            return -ENOMEM, None
        region = self.new_region(mem.guest_pfn)
        fill_region(region, mem)

        if not is_mmio:
            region.is_ram = True
            if not await self.region_movable_init(region):
                region.range_pinned = True

        await step("region.set_partition", region, write=True)
        region.partition = partition
        return 0, region

    async def region_alloc(self) -> bool:
        """Allocate the memory of a region (``vzalloc``, may sleep); False: there is none."""
        return await self.host_mem.might_alloc(1, "region")

    async def partition_destroy_region(self, region: MshvMemRegion) -> None:
        """Take the region off the list, end its notifier, unmap it, unpin, free."""
        partition = partition_of(region)
        await self.partition_unlink_region(partition, region)
        await self.region_release(region)

    async def region_release(self, region: MshvMemRegion) -> None:
        """Undo all but the list entry, and free."""
        if region.is_ram:
            await self.region_movable_fini(region)
        await self.region_unmap(region)
        if region.range_pinned:
            self.region_invalidate_pages(region, 0, region.nr_pages)
        await self.region_free(region)


def holds_gfn(region: MshvMemRegion, gfn: int) -> bool:
    """Say whether a gfn is the region's."""
    return region.start_gfn <= gfn < u64_add(region.start_gfn, region.nr_pages)


def access_permitted(region: MshvMemRegion, access: Access) -> bool:
    """Say whether the region's rights allow an access; reading is always allowed."""
    if access is Access.WRITE:
        return bool(region.hv_map_flags & MAP_WRITABLE)
    if access is Access.EXECUTE:
        return bool(region.hv_map_flags & MAP_EXECUTABLE)
    return True


def fill_region(region: MshvMemRegion, mem: MshvUserMemRegion) -> None:
    """Set what the ioctl's argument says of a region: place, size, rights."""
    region.nr_pages = mem.size >> HV_HYP_PAGE_SHIFT
    probe("driver.alloc", region, region.nr_pages * POINTER_BYTES, "region")
    region.start_gfn = mem.guest_pfn
    region.start_uaddr = mem.userspace_addr
    region.hv_map_flags = MAP_READABLE | MAP_ADJUSTABLE
    if mem.flags & MSHV_SET_MEM_WRITABLE:
        region.hv_map_flags |= MAP_WRITABLE
    if mem.flags & MSHV_SET_MEM_EXECUTABLE:
        region.hv_map_flags |= MAP_EXECUTABLE
