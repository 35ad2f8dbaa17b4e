"""End the mapping of a region while its notifier still watches; no upstream change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.profiles.v7 import V7, RegionType

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion


class UnmapFirst(V6):
    """The order of a movable region's end, the other way round.

    With the notifier gone and the entries still there, the host takes pages that the guest goes
    on using. So the entries go first, under the mutex that callbacks take, with the record of
    them: a callback that comes later finds nothing to do.
    """

    async def region_unmap_locked(self, region: MshvMemRegion) -> None:
        """Unmap and forget all pages, with callbacks kept out."""
        await region.mutex.lock()
        await self.region_unmap(region)
        self.region_invalidate_pages(region, 0, region.nr_pages)
        await region.mutex.unlock()


class UnmapBeforeNotifierRemoval(UnmapFirst):
    """On v6. A callback between the two leaves NO_ACCESS entries behind, which do no harm."""

    async def region_release(self, region: MshvMemRegion) -> None:
        """Unmap, then end the notifier, unpin, free."""
        if region.is_ram and not region.range_pinned:
            await self.region_unmap_locked(region)
            await self.region_movable_fini(region)
        else:
            await self.region_unmap(region)
            self.region_invalidate_pages(region, 0, region.nr_pages)
        await self.region_free(region)


class UnmapBeforeNotifierRemovalV7(UnmapFirst, V7):
    """From v7 on."""

    async def region_release(self, region: MshvMemRegion) -> None:
        """Unmap, then end the notifier, unpin, free: the last reference is gone."""
        if region.mreg_type == RegionType.MOVABLE:
            await self.region_unmap_locked(region)
            await self.region_movable_fini(region)
        else:
            await self.region_unmap(region)
            self.region_invalidate_pages(region, 0, region.nr_pages)
        await self.region_free(region)


PATCH = Patch(
    name="unmap-before-notifier-removal",
    summary="Unmap a region before its notifier is removed, not after",
    bugs=("X01",),
    variants=(
        Variant(UnmapBeforeNotifierRemoval, on=("v6",)),
        Variant(UnmapBeforeNotifierRemovalV7, on=("v7", "v9", "fix1")),
    ),
)
