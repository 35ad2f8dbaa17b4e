"""Leave NO_ACCESS behind a map that failed half-way; no upstream change (C06)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.abi import HV_LARGE_PAGE_SHIFT, MAP_NO_DEPOSIT
from mshv_async.driver.cint import pmd_aligned, u64_add
from mshv_async.driver.hypercalls import PageWindow
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.profiles.v7 import V7, RegionType
from mshv_async.driver.remap import partition_of
from mshv_async.hyperv import MAP_LARGE_PAGE, MAP_NO_ACCESS, UNMAP_LARGE_PAGE

if TYPE_CHECKING:
    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.profiles.v7 import ChunkHandler
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition


class MapOrNoAccess(V6):
    """Mapping a span of a live movable region, with the other rollback."""

    async def map_or_no_access(
        self, region: MshvMemRegion, map_flags: int, page_offset: int, page_count: int
    ) -> int:
        """Map a span; on failure make inaccessible what was mapped, and forget the span's pages.

        Only the elements that the hypervisor did, whether counted or not (E03): over them
        NO_ACCESS needs no memory. Should it fail all the same, they are unmapped.
        """
        pt_id = partition_of(region).pt_id
        gfn = region.start_gfn + page_offset
        window = PageWindow(region.pages, page_offset)
        ret, _, completed = await self.hv_map_gpa_batches(
            pt_id, gfn, page_count, map_flags, window, 0
        )
        if not ret or map_flags & MAP_NO_ACCESS:
            return ret
        large = map_flags & MAP_LARGE_PAGE
        pages = completed << HV_LARGE_PAGE_SHIFT if large else completed
        failed = 0
        if pages:
            flags = MAP_NO_ACCESS | MAP_NO_DEPOSIT | large
            failed, _, _ = await self.hv_map_gpa_batches(pt_id, gfn, pages, flags, None, 0)
        if failed:
            failed = await self.hv_call_unmap_gpa_pages(
                pt_id, gfn, pages, UNMAP_LARGE_PAGE if large else 0
            )
        if not failed:
            self.region_invalidate_pages(region, page_offset, page_count)
        return ret


class RollbackToNoAccess(MapOrNoAccess):
    """A guest page of a live movable region never becomes absent.

    A failed NO_ACCESS map is left as far as it came. After any other failure the whole span is
    mapped NO_ACCESS and its pages are forgotten, so that the next touch faults it in again. A
    region that is being created, and a pinned one, are rolled back as before.
    """

    async def region_remap_pages(
        self, region: MshvMemRegion, map_flags: int, page_offset: int, page_count: int
    ) -> int:
        """As v6 but for the rollback."""
        gfn = region.start_gfn + page_offset
        beyond = u64_add(page_offset, page_count) > region.nr_pages
        if region.range_pinned or beyond:
            return await super().region_remap_pages(region, map_flags, page_offset, page_count)
        if region.large_pages and pmd_aligned(gfn) and pmd_aligned(page_count):
            map_flags |= MAP_LARGE_PAGE
        return await self.map_or_no_access(region, map_flags, page_offset, page_count)

    async def map_new_region(
        self,
        partition: MshvPartition,
        region: MshvMemRegion,
        mem: MshvUserMemRegion,
        is_mmio: bool,
        mmio_pfn: int,
    ) -> int:
        """As v6; the region is not live yet, so its NO_ACCESS map goes the old way."""
        if is_mmio or region.range_pinned:
            return await super().map_new_region(partition, region, mem, is_mmio, mmio_pfn)
        return await self.hv_call_map_gpa_pages(
            partition.pt_id, region.start_gfn, region.nr_pages, MAP_NO_ACCESS, None
        )


class RollbackToNoAccessV7(MapOrNoAccess, V7):
    """The same for the chunks of v7 and later."""

    async def region_chunk_remap(
        self, region: MshvMemRegion, flags: int, page_offset: int, page_count: int, huge: bool
    ) -> int:
        """As before but for the rollback of a movable region."""
        if region.mreg_type != RegionType.MOVABLE:
            return await super().region_chunk_remap(region, flags, page_offset, page_count, huge)
        if huge:
            flags |= MAP_LARGE_PAGE
        return await self.map_or_no_access(region, flags, page_offset, page_count)

    async def region_process_chunk(
        self,
        region: MshvMemRegion,
        flags: int,
        page_offset: int,
        page_count: int,
        handler: ChunkHandler,
    ) -> int:
        """As before; with a chunk that was rolled back all that was to come is forgotten."""
        ret = await super().region_process_chunk(region, flags, page_offset, page_count, handler)
        if ret < 0 and region.pages.get(page_offset) is None:
            self.region_invalidate_pages(region, page_offset, page_count)
        return ret


PATCH = Patch(
    name="rollback-to-no-access",
    summary="Roll a failed map of a movable region back to NO_ACCESS instead of unmapped",
    bugs=("C06",),
    variants=(
        Variant(RollbackToNoAccess, on=("v6",)),
        Variant(RollbackToNoAccessV7, on=("v7", "v9", "fix1")),
    ),
    extends=("region_process_chunk",),
)
