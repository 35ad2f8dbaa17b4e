"""Let the unmap ioctl return only when the region is gone; no upstream change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.patches.region_refcount import RegionRefcount
from mshv_async.sim import Completion

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion


class UnmapWaits(RegionRefcount):
    """A fault that is under way holds a reference, and would map pages after the ioctl returned.

    Whoever drops the last one, this thread or a faulting one, completes what the ioctl waits for.
    """

    async def partition_destroy_region(self, region: MshvMemRegion) -> None:
        """As before, then wait until the region was freed."""
        done = Completion(f"{region.name}.released")
        region.mreg_released = done
        await super().partition_destroy_region(region)
        await done.wait()

    async def region_free(self, region: MshvMemRegion) -> None:
        """Free the region and tell who waits for that."""
        done = region.mreg_released
        await super().region_free(region)
        if done is not None:
            await done.complete()


PATCH = Patch(
    name="unmap-waits",
    summary="Make the unmap ioctl wait for faults of the region that are under way",
    bugs=("X02",),
    variants=(
        Variant(UnmapWaits, on=("v6",), after=("region-refcount",)),
        Variant(UnmapWaits, on=("v7", "v9", "fix1")),
    ),
    extends=("partition_destroy_region", "region_free"),
)
