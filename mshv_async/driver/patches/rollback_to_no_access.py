"""Leave NO_ACCESS behind a map that failed half-way; no upstream change (C06)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.cint import pmd_aligned, u64_add
from mshv_async.driver.hypercalls import PageWindow
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.patches.shortage import TakeBack
from mshv_async.driver.profiles.v7 import V7, RegionType
from mshv_async.driver.remap import partition_of
from mshv_async.hyperv import MAP_LARGE_PAGE, MAP_NO_ACCESS
from mshv_async.sim import current

if TYPE_CHECKING:
    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.profiles.v7 import ChunkHandler
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition


class MapWithoutRollback(TakeBack):
    """Mapping a span of a live movable region."""

    async def map_without_rollback(
        self, region: MshvMemRegion, map_flags: int, page_offset: int, page_count: int
    ) -> int:
        """Map a span; a failure leaves it as far as it came."""
        ret, _ = await self.hv_map_gpa_batches(
            partition_of(region).pt_id,
            region.start_gfn + page_offset,
            page_count,
            map_flags,
            PageWindow(region.pages, page_offset),
            0,
        )
        return ret


class RollbackToNoAccess(MapWithoutRollback):
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
        ret = await self.map_without_rollback(region, map_flags, page_offset, page_count)
        if ret and not map_flags & MAP_NO_ACCESS:
            await self.region_take_back(region, page_offset, page_count)
        return ret

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


class RollbackToNoAccessV7(MapWithoutRollback, V7):
    """The same for the chunks of v7 and later."""

    async def region_chunk_remap(
        self, region: MshvMemRegion, flags: int, page_offset: int, page_count: int, huge: bool
    ) -> int:
        """As before, but a movable region's chunk is not rolled back here."""
        if region.mreg_type != RegionType.MOVABLE:
            return await super().region_chunk_remap(region, flags, page_offset, page_count, huge)
        if huge:
            flags |= MAP_LARGE_PAGE
        return await self.map_without_rollback(region, flags, page_offset, page_count)

    async def region_process_chunk(
        self,
        region: MshvMemRegion,
        flags: int,
        page_offset: int,
        page_count: int,
        handler: ChunkHandler,
    ) -> int:
        """As before; from a chunk of a fault that could not be mapped on, all is taken back."""
        ret = await super().region_process_chunk(region, flags, page_offset, page_count, handler)
        failed = ret < 0 and not flags & MAP_NO_ACCESS and region.mutex.owner is current()
        if failed and region.pages.get(page_offset) is not None:
            await self.region_take_back(region, page_offset, page_count)
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
