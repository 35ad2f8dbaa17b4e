"""Put a region on the list before its pages become NO_ACCESS; no upstream change (D05)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.patches.region_refcount import RegionRefcount
from mshv_async.driver.profiles.v6 import V6
from mshv_async.sim import current, step

if TYPE_CHECKING:
    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition


class PendingRegion(V6):
    """The region is found from the start, but nobody uses it until its map is complete.

    Inserting early is not enough. A processor that faults while NO_ACCESS is still being mapped
    would see its fresh entries overwritten, and would deposit under the region mutex; a failing
    map would take the region away under its feet. So the partition remembers which region is
    pending, and who finds that one waits for the partition mutex, which the ioctl holds, and
    looks again. The waiter keeps no pointer, so this holds without reference counts too.
    """

    async def map_user_memory(self, partition: MshvPartition, mem: MshvUserMemRegion) -> int:
        """As before, with the list entry first; on failure the region is destroyed in full."""
        ret, is_mmio, mmio_pfn = await self.look_at_backing(mem)
        if ret:
            return ret
        ret, region = await self.partition_create_region(partition, mem, is_mmio)
        if region is None:
            return ret

        await self.region_set_pending(partition, region)
        await self.partition_link_region(partition, region)
        ret = await self.map_new_region(partition, region, mem, is_mmio, mmio_pfn)
        if ret:
            await self.partition_destroy_region(region)
        await self.region_set_pending(partition, None)
        return ret

    async def region_set_pending(
        self, partition: MshvPartition, region: MshvMemRegion | None
    ) -> None:
        """Say which region of the partition is being mapped."""
        await step("region.pending", partition, write=True)
        partition.pt_region_pending = region

    async def region_is_pending(self, partition: MshvPartition, region: MshvMemRegion) -> bool:
        """Say whether another thread is still mapping the region; it is not looked into."""
        if partition.pt_mutex.owner is current():
            return False
        await step("region.pending", partition)
        return partition.pt_region_pending is region

    async def wait_for_map(self, partition: MshvPartition) -> bool:
        """Wait for the map ioctl under way; False: a fatal signal came first."""
        if await partition.pt_mutex.lock_killable():
            return False
        await partition.pt_mutex.unlock()
        return True


class ListBeforeMap(PendingRegion):
    """On v6, whose look-up is a bare walk."""

    async def partition_region_by_gfn(
        self, partition: MshvPartition, gfn: int
    ) -> MshvMemRegion | None:
        """Return the region that holds ``gfn`` once it is mapped."""
        while True:
            region = await super().partition_region_by_gfn(partition, gfn)
            if region is None or not await self.region_is_pending(partition, region):
                return region
            if not await self.wait_for_map(partition):
                return None


class ListBeforeMapCounted(PendingRegion, RegionRefcount):
    """With counted regions, where intercepts look up with a reference."""

    async def partition_region_by_gfn_get(
        self, partition: MshvPartition, gfn: int
    ) -> MshvMemRegion | None:
        """Return the region that holds ``gfn``, referenced, once it is mapped."""
        while True:
            region = await super().partition_region_by_gfn_get(partition, gfn)
            if region is None or not await self.region_is_pending(partition, region):
                return region
            await self.region_put(region)
            if not await self.wait_for_map(partition):
                return None


PATCH = Patch(
    name="list-before-map",
    summary="Insert the region before its NO_ACCESS map; intercepts wait until it is mapped",
    bugs=("D05", "D07"),
    variants=(
        Variant(ListBeforeMap, on=("v6",)),
        Variant(ListBeforeMap, on=("v6",), after=("put-on-map-error",)),
        Variant(ListBeforeMapCounted, on=("v6",), after=("region-refcount",)),
        Variant(ListBeforeMapCounted, on=("v6",), after=("region-refcount", "put-on-map-error")),
        Variant(ListBeforeMapCounted, on=("v7", "v9", "fix1")),
        Variant(ListBeforeMapCounted, on=("v7", "v9"), after=("put-on-map-error",)),
    ),
    extends=("partition_region_by_gfn", "partition_region_by_gfn_get"),
)
