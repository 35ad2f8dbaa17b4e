"""Version 9, 3 December 2025: the text that was merged."""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from mshv_async.driver.abi import HV_HYP_PAGE_SHIFT, PMD_ORDER
from mshv_async.driver.cint import u64_add
from mshv_async.driver.profiles.v7 import V7
from mshv_async.hyperv import UNMAP_LARGE_PAGE

if TYPE_CHECKING:
    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition


class V9(V7):
    """The merged text: the overlap test is the true one again (D08).

    v7 had rewritten it to look at the ends of the new range only; v8 dropped that change. Folios
    of other orders than 0 and 9 are refused (B09), and the large flag goes by hugetlb or THP, for
    unmaps too (B08).
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

    def chunk_order(self, region: MshvMemRegion, page_offset: int) -> int:
        """Return the order of a recorded page's folio; -EINVAL unless it is 0 or 9."""
        order = self.page_order(region, page_offset)
        return order if order in (0, PMD_ORDER) else -EINVAL

    def folio_is_large(self) -> bool:
        """Say whether a folio of several pages is mapped LARGE: hugetlb and THP are."""
        return True

    async def region_chunk_unmap(
        self, region: MshvMemRegion, flags: int, page_offset: int, page_count: int, huge: bool
    ) -> int:
        """Unmap one chunk, with the large flag."""
        if huge:
            flags |= UNMAP_LARGE_PAGE
        return await super().region_chunk_unmap(region, flags, page_offset, page_count, huge)
