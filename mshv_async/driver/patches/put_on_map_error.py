"""End the notifier when the first map of a region fails (merged in 7.0-rc5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.patches.region_refcount import RegionRefcount
from mshv_async.driver.profiles.fix1 import Fix1
from mshv_async.driver.profiles.v6 import V6

if TYPE_CHECKING:
    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.structures import MshvPartition


class PutOnMapError(V6):
    """v6 counts no references: destroy in full what the failed map made."""

    async def map_user_memory(self, partition: MshvPartition, mem: MshvUserMemRegion) -> int:
        """As v6; on failure the notifier is removed before the region is freed."""
        ret, is_mmio, mmio_pfn = await self.look_at_backing(mem)
        if ret:
            return ret
        ret, region = await self.partition_create_region(partition, mem, is_mmio)
        if region is None:
            return ret

        ret = await self.map_new_region(partition, region, mem, is_mmio, mmio_pfn)
        if ret:
            await self.region_release(region)
            return ret
        await self.partition_link_region(partition, region)
        return 0


class PutOnMapErrorCounted(RegionRefcount):
    """The merged change, for versions that count references."""

    map_user_memory = Fix1.map_user_memory


PATCH = Patch(
    name="put-on-map-error",
    summary="Destroy a region whose first map failed, notifier included, instead of freeing it",
    bugs=("D07",),
    variants=(
        Variant(PutOnMapError, on=("v6",)),
        Variant(PutOnMapErrorCounted, on=("v7", "v9")),
    ),
)
