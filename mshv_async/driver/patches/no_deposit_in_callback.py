"""Invalidate without allocating anything; no upstream change (A09)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.abi import MAP_NO_DEPOSIT
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.patches.shortage import NoDeposit, shortage_of
from mshv_async.hyperv import MAP_NO_ACCESS
from mshv_async.sim import current

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion


class NoDepositInCallback(NoDeposit):
    """NO_ACCESS in a callback takes no memory.

    It runs short only where it would have to split a 2 MiB entry. There the whole 2 MiB become
    inaccessible instead, which needs no table; the guest's next touch brings the rest back.
    """

    async def region_remap_pages(
        self, region: MshvMemRegion, map_flags: int, page_offset: int, page_count: int
    ) -> int:
        """As before but for NO_ACCESS under the region mutex, which is the callback's."""
        if not map_flags & MAP_NO_ACCESS or region.mutex.owner is not current():
            return await super().region_remap_pages(region, map_flags, page_offset, page_count)
        map_flags |= MAP_NO_DEPOSIT
        ret = await super().region_remap_pages(region, map_flags, page_offset, page_count)
        if shortage_of(ret) is None:
            return ret
        return await self.region_no_access_blocks(region, page_offset, page_count)


PATCH = Patch(
    name="no-deposit-in-callback",
    summary="Never deposit memory in an invalidation: rather take 2 MiB away than split them",
    bugs=("A09",),
    variants=(Variant(NoDepositInCallback, on=("v6", "v7", "v9", "fix1")),),
    extends=("region_remap_pages",),
)
