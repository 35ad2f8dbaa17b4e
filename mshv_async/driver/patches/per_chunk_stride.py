"""Decide for each 2 MiB whether it is large, not once for the region (the change of v7, right)."""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from mshv_async.driver.abi import PMD_ORDER
from mshv_async.driver.cint import pmd_aligned, u64_add
from mshv_async.driver.hypercalls import PageWindow
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.remap import partition_of
from mshv_async.hyperv import MAP_LARGE_PAGE, UNMAP_LARGE_PAGE
from mshv_async.sim import note

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion

Chunk = tuple[int, int, bool]


class PerChunkStride(V6):
    """The region's flag is set as before, but nobody looks at it.

    A chunk is large where a recorded page is the 2 MiB aligned beginning of 2 MiB of one folio, at
    an aligned gfn, with 2 MiB to go. As on v6, pages that were never populated are included.
    """

    async def region_remap_pages(
        self, region: MshvMemRegion, map_flags: int, page_offset: int, page_count: int
    ) -> int:
        """Map a span with ``map_flags``, each chunk in its size; stops at the first errno."""
        if u64_add(page_offset, page_count) > region.nr_pages:
            return -EINVAL
        for lo, hi, large in self.span_chunks(region, page_offset, page_offset + page_count):
            ret = await self.hv_call_map_gpa_pages(
                partition_of(region).pt_id,
                region.start_gfn + lo,
                hi - lo,
                map_flags | MAP_LARGE_PAGE if large else map_flags,
                PageWindow(region.pages, lo),
            )
            if ret:
                return ret
        return 0

    def span_chunks(self, region: MshvMemRegion, lo: int, hi: int) -> list[Chunk]:
        """Return a span as (first, end, large), in order; neighbours of one kind are one chunk."""
        if not self.host_mem.large:
            return [(lo, hi, False)]
        chunks: list[Chunk] = []
        while lo < hi:
            to_boundary = -(region.start_gfn + lo) % (1 << PMD_ORDER)
            end = min(hi, lo + (to_boundary or 1 << PMD_ORDER))
            large = not to_boundary and end - lo == 1 << PMD_ORDER and self.is_large(region, lo)
            joins = bool(chunks) and chunks[-1][2] == large
            chunks.append((chunks.pop()[0] if joins else lo, end, large))
            lo = end
        return chunks

    def is_large(self, region: MshvMemRegion, page_offset: int) -> bool:
        """Say whether an entry is the beginning of 2 MiB of one folio."""
        page = region.pages.get(page_offset)
        return (
            page is not None
            and pmd_aligned(page.pfn)
            and self.host_mem.folio(page.pfn).order >= PMD_ORDER
        )

    async def region_unmap_chunk(self, region: MshvMemRegion, gfn: int, page_count: int) -> None:
        """Unmap one chunk, as a large page if it is one."""
        whole = pmd_aligned(gfn) and pmd_aligned(page_count)
        large = whole and self.host_mem.large and self.is_large(region, gfn - region.start_gfn)
        ret = await self.hv_call_unmap_gpa_pages(
            partition_of(region).pt_id, gfn, page_count, UNMAP_LARGE_PAGE if large else 0
        )
        if ret:
            note("region.unmap_failed", region=region.name, gfn=gfn, ret=ret)


PATCH = Patch(
    name="per-chunk-stride",
    summary="Ask each 2 MiB whether it is one huge page, instead of the region's first page",
    bugs=("B02",),
    variants=(Variant(PerChunkStride, on=("v6",)),),
)
