"""Version 9, 3 December 2025: the text that was merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.abi import HV_HYP_PAGE_SHIFT
from mshv_async.driver.cint import u64_add
from mshv_async.driver.profiles.v7 import V7

if TYPE_CHECKING:
    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.structures import MshvPartition


class V9(V7):
    """The merged text: the overlap test is the true one again (D08).

    v7 had rewritten it to look at the ends of the new range only; v8 dropped that change. Folio
    orders other than 0 and 9 are refused from here on, which small pages do not show.
    """

    async def partition_region_overlaps(
        self, partition: MshvPartition, mem: MshvUserMemRegion
    ) -> bool:
        """Say whether the new range meets a region by gfn, an enclosed one included."""
        end_gfn = u64_add(mem.guest_pfn, mem.size >> HV_HYP_PAGE_SHIFT)
        lock = self.list_lock(partition)
        await lock.lock()
        overlaps = any(
            mem.guest_pfn < u64_add(region.start_gfn, region.nr_pages)
            and region.start_gfn < end_gfn
            for region in partition.pt_mem_regions.regions()
        )
        lock.unlock()
        return overlaps
