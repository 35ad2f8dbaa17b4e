"""Editing a region's SLAT entries and its page array (spec.md 4.4 to 4.6)."""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from mshv_async.driver.cint import align_down, pmd_aligned, u64_add
from mshv_async.driver.hypercalls import HypercallHelpers, PageWindow
from mshv_async.hyperv import MAP_LARGE_PAGE, UNMAP_LARGE_PAGE
from mshv_async.sim import note, oops

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition

UNMAP_CHUNK_PAGES = 512


def next_recorded(region: MshvMemRegion, offset: int, end: int) -> int | None:
    """Return the offset of the first recorded page in ``[offset, end)``; None: there is none.

    The spans looked at double, so that the empty parts of a large region cost little.
    """
    span = UNMAP_CHUNK_PAGES
    while offset < end:
        found = region.pages.runs(offset, min(offset + span, end))
        if found:
            return found[0][0]
        offset += span
        span *= 2
    return None


def partition_of(region: MshvMemRegion) -> MshvPartition:
    """Follow the region's partition pointer; ``oops`` while it is still NULL."""
    partition = region.partition
    if partition is None:
        oops("NULL partition", region)
    return partition


class RegionRemap(HypercallHelpers):
    """Remap, unmap and forget a span of a region; spans are offset and count in pages."""

    async def region_remap_pages(
        self, region: MshvMemRegion, map_flags: int, page_offset: int, page_count: int
    ) -> int:
        """Map a span with ``map_flags``; -EINVAL beyond the region, else the hypercall's errno.

        One flag for the whole span: LARGE if the region was ever seen to hold a huge page and
        gfn and count are 2 MiB aligned.
        """
        if u64_add(page_offset, page_count) > region.nr_pages:
            return -EINVAL
        gfn = region.start_gfn + page_offset
        if region.large_pages and pmd_aligned(gfn) and pmd_aligned(page_count):
            map_flags |= MAP_LARGE_PAGE
        return await self.hv_call_map_gpa_pages(
            partition_of(region).pt_id,
            gfn,
            page_count,
            map_flags,
            PageWindow(region.pages, page_offset),
        )

    async def region_map(self, region: MshvMemRegion) -> int:
        """Map the whole region with its own rights."""
        return await self.region_remap_pages(region, region.hv_map_flags, 0, region.nr_pages)

    def region_invalidate_pages(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> None:
        """Forget the recorded pages of a span; a pinned region's are unpinned."""
        if region.range_pinned:
            runs = region.pages.runs(page_offset, page_offset + page_count)
            self.page_pin_release([(page.pfn, page.pfn + hi - lo) for lo, hi, page in runs])
        region.pages.clear(page_offset, page_offset + page_count)

    async def region_unmap(self, region: MshvMemRegion) -> None:
        """Unmap the region in chunks that end at 2 MiB boundaries of the guest's space.

        A chunk with no recorded page is skipped, its NO_ACCESS entries stay. A failure is
        logged, nothing more.
        """
        region_end = region.start_gfn + region.nr_pages
        offset = next_recorded(region, 0, region.nr_pages)
        while offset is not None:
            gfn = region.start_gfn + offset
            start = max(region.start_gfn, align_down(gfn, UNMAP_CHUNK_PAGES))
            end = min(region_end, align_down(start, UNMAP_CHUNK_PAGES) + UNMAP_CHUNK_PAGES)
            await self.region_unmap_chunk(region, start, end - start)
            offset = next_recorded(region, end - region.start_gfn, region.nr_pages)

    async def region_unmap_chunk(self, region: MshvMemRegion, gfn: int, page_count: int) -> None:
        """Unmap one chunk, as large pages if the region has them and the chunk is whole."""
        unmap_flags = 0
        if region.large_pages and pmd_aligned(gfn) and pmd_aligned(page_count):
            unmap_flags |= UNMAP_LARGE_PAGE
        ret = await self.hv_call_unmap_gpa_pages(
            partition_of(region).pt_id, gfn, page_count, unmap_flags
        )
        if ret:
            note("region.unmap_failed", region=region.name, gfn=gfn, ret=ret)
