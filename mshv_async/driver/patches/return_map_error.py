"""Report that a pinned region could not be mapped (posted, unmerged: D11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion


class ReturnMapError(V6):
    """The ioctl fails; the caller's destroy unmaps and unpins."""

    async def prepare_pinned_region(self, region: MshvMemRegion) -> int:
        """Pin and map the whole region; 0 or the first errno."""
        return await self.region_pin(region) or await self.region_map(region)


class ReturnMapErrorAndUnpin(V6):
    """The same where the caller only frees the region (D07)."""

    async def prepare_pinned_region(self, region: MshvMemRegion) -> int:
        """Pin and map the whole region; after a failed map unmap what there is, and unpin."""
        ret = await self.region_pin(region)
        if ret:
            return ret
        ret = await self.region_map(region)
        if ret:
            await self.region_unmap(region)
            self.region_invalidate_pages(region, 0, region.nr_pages)
        return ret


PATCH = Patch(
    name="return-map-error",
    summary="Fail the ioctl when a pinned region cannot be mapped",
    bugs=("D11",),
    variants=(
        Variant(ReturnMapError, on=("fix1",)),
        Variant(ReturnMapErrorAndUnpin, on=("v6", "v7", "v9")),
    ),
)
