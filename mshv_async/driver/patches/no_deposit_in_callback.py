"""Invalidate without allocating anything; no upstream change (A09)."""

from __future__ import annotations

from errno import ENOMEM
from typing import TYPE_CHECKING, Final

from mshv_async.driver.abi import MAP_NO_DEPOSIT
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.patches.shortage import NoDeposit, shortage_of
from mshv_async.driver.remap import partition_of
from mshv_async.hyperv import MAP_LARGE_PAGE, MAP_NO_ACCESS
from mshv_async.sim import current

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion

BLOCK: Final = 512


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

    async def region_no_access_blocks(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> int:
        """Make every 2 MiB block inaccessible that the span touches; -ENOMEM if even that fails.

        A block that reaches beyond the region has no 2 MiB entry: of it only the span itself.
        """
        pt_id = partition_of(region).pt_id
        end = region.start_gfn + page_offset + page_count
        gfn = region.start_gfn + page_offset
        while gfn < end:
            lo = gfn - gfn % BLOCK
            hi = lo + BLOCK
            large = MAP_LARGE_PAGE
            if lo < region.start_gfn or hi > region.start_gfn + region.nr_pages:
                lo, hi, large = gfn, min(hi, end), 0
            flags = MAP_NO_ACCESS | MAP_NO_DEPOSIT | large
            ret = await self.hv_call_map_gpa_pages(pt_id, lo, hi - lo, flags, None)
            if ret:
                return -ENOMEM if shortage_of(ret) is not None else ret
            self.region_invalidate_pages(region, lo - region.start_gfn, hi - lo)
            gfn = hi
        return 0


PATCH = Patch(
    name="no-deposit-in-callback",
    summary="Never deposit memory in an invalidation: rather take 2 MiB away than split them",
    bugs=("A09",),
    variants=(Variant(NoDepositInCallback, on=("v6", "v7", "v9", "fix1")),),
    extends=("region_remap_pages",),
)
