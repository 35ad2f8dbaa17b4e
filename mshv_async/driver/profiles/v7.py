"""Version 7, 26 November 2025: regions in a file of their own, counted, walked in chunks."""

from __future__ import annotations

from enum import IntEnum
from errno import EEXIST, EINVAL, ENOENT, ENOMEM
from typing import TYPE_CHECKING

from mshv_async.driver.abi import HV_HYP_PAGE_SHIFT, PMD_ORDER, PUD_ORDER
from mshv_async.driver.cint import u64_add, u64_sub
from mshv_async.driver.hypercalls import PageWindow
from mshv_async.driver.patches.region_refcount import RegionRefcount
from mshv_async.driver.region import fill_region, holds_gfn
from mshv_async.driver.remap import next_recorded, partition_of
from mshv_async.host import mmu_interval_notifier_remove
from mshv_async.hyperv import MAP_LARGE_PAGE, MAP_NO_ACCESS
from mshv_async.sim import note, oops, step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition, MshvVp

    ChunkHandler = Callable[[MshvMemRegion, int, int, int, bool], Awaitable[int]]
    """``handler(region, flags, page_offset, page_count, huge)``."""


class RegionType(IntEnum):
    """What backs a region; zeroed memory reads as pinned."""

    PINNED = 0
    MOVABLE = 1
    MMIO = 2


class V7(RegionRefcount):
    """Regions counted and their list locked, one type instead of two booleans, chunk walks.

    *Life time*: a reference count for each region and a spinlock for the list (D01, D02); the
    patch ``region-refcount`` is the same change. *Type*: one enumeration instead of two booleans.
    *Chunks*: operations walk the recorded pages and skip what was never populated; whether a chunk
    is large is asked of each page's folio, so the sticky flag is gone (B02). Neither the page's
    place in its folio, nor the gfn, nor the pages left are looked at (B05, B06); 1 GiB folios are
    refused, other orders taken for large (B09); the large flag comes from another test than the
    stride (B08), and an unmap does without it.

    Also new: overlap is judged by gfn only, with the ends tested as before (D08); an unmap that
    finds no region fails with -ENOENT; an intercept on a region that is not movable is left to
    the VMM without a warning.
    """

    no_region_errno = ENOENT

    def new_region(self, guest_pfn: int) -> MshvMemRegion:
        """Allocate a zeroed region: type 0, which is pinned, and one reference."""
        region = super().new_region(guest_pfn)
        region.mreg_type = RegionType.PINNED
        return region

    async def partition_region_overlaps(
        self, partition: MshvPartition, mem: MshvUserMemRegion
    ) -> bool:
        """Say whether an end of the new range lies in a region; host addresses may repeat."""
        last_gfn = u64_sub(u64_add(mem.guest_pfn, mem.size >> HV_HYP_PAGE_SHIFT), 1)
        lock = self.list_lock(partition)
        await lock.lock()
        overlaps = any(
            holds_gfn(region, mem.guest_pfn) or holds_gfn(region, last_gfn)
            for region in partition.pt_mem_regions.regions()
        )
        lock.unlock()
        return overlaps

    async def partition_create_region(
        self, partition: MshvPartition, mem: MshvUserMemRegion, is_mmio: bool = False
    ) -> tuple[int, MshvMemRegion | None]:
        """As v6; the type is set once the notifier is live, the partition pointer last (D06)."""
        if await self.partition_region_overlaps(partition, mem):
            return -EEXIST, None
        if not await self.region_alloc():
            return -ENOMEM, None
        region = self.new_region(mem.guest_pfn)
        fill_region(region, mem)

        if is_mmio:
            region_type = RegionType.MMIO
        elif await self.region_movable_init(region):
            region_type = RegionType.MOVABLE
        else:
            region_type = RegionType.PINNED
        await step("region.set_partition", region, write=True)
        region.mreg_type = region_type
        region.partition = partition
        return 0, region

    async def handle_gpa_intercept(self, vp: MshvVp) -> bool:
        """Serve the intercept with a reference on the region; only movable ones, no warning."""
        gfn = vp.vp_intercept_msg_page.intercept_message.gfn
        region = await self.partition_region_by_gfn_get(vp.vp_partition, gfn)
        if region is None:
            return False
        handled = False
        if region.mreg_type == RegionType.MOVABLE:
            handled = await self.region_handle_gfn_fault(region, gfn)
        await self.region_put(region)
        return handled

    async def region_handle_gfn_fault(self, region: MshvMemRegion, gfn: int) -> bool:
        """Map the window around ``gfn``; a failure is warned about."""
        page_offset, page_count = self.fault_window(region, gfn)
        ret = await self.region_range_fault(region, page_offset, page_count)
        return self.gfn_fault_served(ret)

    async def map_new_region(
        self,
        partition: MshvPartition,
        region: MshvMemRegion,
        mem: MshvUserMemRegion,
        is_mmio: bool,
        mmio_pfn: int,
    ) -> int:
        """As v6; NO_ACCESS at creation asks the hypercall helper directly, pages or none."""
        if is_mmio:
            return await self.hv_call_map_mmio_pages(
                partition.pt_id, mem.guest_pfn, mmio_pfn, region.nr_pages
            )
        if region.mreg_type == RegionType.PINNED:
            return await self.prepare_pinned_region(region)
        return await self.hv_call_map_gpa_pages(
            partition.pt_id, region.start_gfn, region.nr_pages, MAP_NO_ACCESS, None
        )

    async def region_movable_fini(self, region: MshvMemRegion) -> None:
        """Remove the notifier of a movable region."""
        await mmu_interval_notifier_remove(region.mni)

    async def region_release(self, region: MshvMemRegion) -> None:
        """End the notifier, unmap, unpin, free: the last reference is gone."""
        if region.mreg_type == RegionType.MOVABLE:
            await self.region_movable_fini(region)
        await self.region_unmap(region)
        self.region_invalidate_pages(region, 0, region.nr_pages)
        await self.region_free(region)

    def region_invalidate_pages(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> None:
        """Forget the recorded pages of a span; a pinned region's are unpinned."""
        if region.mreg_type == RegionType.PINNED:
            runs = region.pages.runs(page_offset, page_offset + page_count)
            self.page_pin_release([(page.pfn, page.pfn + hi - lo) for lo, hi, page in runs])
        region.pages.clear(page_offset, page_offset + page_count)

    def setup_region(self, partition: MshvPartition, mem: MshvUserMemRegion) -> MshvMemRegion:
        """As v6, with the region's type."""
        region = super().setup_region(partition, mem)
        if not region.is_ram:
            region.mreg_type = RegionType.MMIO
        else:
            region.mreg_type = RegionType.MOVABLE if self.mmu_notifier else RegionType.PINNED
        return region

    def setup_chunks(self, region: MshvMemRegion, lo: int, hi: int) -> list[tuple[int, int, bool]]:
        """Cut a run of recorded pages into whole folios of 2 MiB at aligned gfns, and the rest."""
        if not self.host_mem.large or not self.folio_is_large():
            return [(lo, hi, False)]
        chunks = []
        while lo < hi:
            to_boundary = -(region.start_gfn + lo) % (1 << PMD_ORDER)
            end = min(hi, lo + (to_boundary or 1 << PMD_ORDER))
            page = region.pages.get(lo)
            assert page is not None
            folio = self.host_mem.folio(page.pfn)
            large = folio.order == PMD_ORDER and folio.head == page.pfn
            chunks.append((lo, end, large and end - lo == 1 << PMD_ORDER))
            lo = end
        return chunks

    # -- chunks ----------------------------------------------------------------------------

    async def region_process_range(
        self,
        region: MshvMemRegion,
        flags: int,
        page_offset: int,
        page_count: int,
        handler: ChunkHandler,
    ) -> int:
        """Call ``handler`` for each chunk of recorded pages; stop at the first errno.

        A chunk may be longer than what is left of the range. Then the count wraps, the walk goes
        on to the end of the region, and past it (B05).
        """
        nr_pages = region.nr_pages
        if u64_add(page_offset, page_count) > nr_pages:
            return -EINVAL
        while page_count:
            at = next_recorded(region, page_offset, min(page_offset + page_count, nr_pages))
            if at is None:
                if page_offset + page_count > nr_pages:
                    oops("read beyond the end of pages[]", region)
                return 0
            page_count = u64_sub(page_count, at - page_offset)
            ret = await self.region_process_chunk(region, flags, at, page_count, handler)
            if ret < 0:
                return ret
            page_offset = at + ret
            page_count = u64_sub(page_count, ret)
        return 0

    async def region_process_chunk(
        self,
        region: MshvMemRegion,
        flags: int,
        page_offset: int,
        page_count: int,
        handler: ChunkHandler,
    ) -> int:
        """Call ``handler`` for the pages from ``page_offset`` on that have one stride.

        Returns their number or an errno. The stride is the size of the first page's folio, be that
        page its head or not (B06). Only the first page of each stride is looked at.
        """
        order = self.chunk_order(region, page_offset)
        if order < 0:
            return order
        if not order:
            count = self.small_pages(region, page_offset, page_count)
            return await handler(region, flags, page_offset, count, False) or count
        count = stride = 1 << order
        while count < page_count and self.page_order(region, page_offset + count) == order:
            count += stride
        huge = self.folio_is_large()
        return await handler(region, flags, page_offset, count, huge) or count

    def chunk_order(self, region: MshvMemRegion, page_offset: int) -> int:
        """Return the order of a recorded page's folio; -EINVAL for 1 GiB, which is refused."""
        order = self.page_order(region, page_offset)
        return -EINVAL if order == PUD_ORDER else order

    def page_order(self, region: MshvMemRegion, page_offset: int) -> int:
        """Return the order of the folio of the page at an offset; -1 for an empty entry."""
        page = region.pages.get(page_offset)
        return -1 if page is None else self.host_mem.folio(page.pfn).order

    def small_pages(self, region: MshvMemRegion, page_offset: int, page_count: int) -> int:
        """Return how many entries from an offset on are pages of their own, without a gap."""
        at, large = page_offset, self.host_mem.large
        for lo, hi, page in region.pages.runs(page_offset, page_offset + page_count):
            if lo != at:
                break
            if large:
                folios = self.host_mem.folios.runs(page.pfn, page.pfn + hi - lo)
                if folios:
                    return lo + folios[0][0] - page.pfn - page_offset
            at = hi
        return at - page_offset

    def folio_is_large(self) -> bool:
        """Say whether a folio of several pages is mapped LARGE: by the test for THP.

        A kernel without THP answers False for hugetlb too (B08).
        """
        return self.host_mem.thp != "never"

    async def region_chunk_remap(
        self, region: MshvMemRegion, flags: int, page_offset: int, page_count: int, huge: bool
    ) -> int:
        """Map one chunk to its recorded pages."""
        if huge:
            flags |= MAP_LARGE_PAGE
        return await self.hv_call_map_gpa_pages(
            partition_of(region).pt_id,
            region.start_gfn + page_offset,
            page_count,
            flags,
            PageWindow(region.pages, page_offset),
        )

    async def region_chunk_unmap(
        self, region: MshvMemRegion, flags: int, page_offset: int, page_count: int, huge: bool
    ) -> int:
        """Unmap one chunk; the large flag is worked out, but not passed on."""
        del huge
        return await self.hv_call_unmap_gpa_pages(
            partition_of(region).pt_id, region.start_gfn + page_offset, page_count, flags
        )

    async def region_remap_pages(
        self, region: MshvMemRegion, map_flags: int, page_offset: int, page_count: int
    ) -> int:
        """Map the recorded pages of a span with ``map_flags``; empty entries are skipped."""
        return await self.region_process_range(
            region, map_flags, page_offset, page_count, self.region_chunk_remap
        )

    async def region_unmap(self, region: MshvMemRegion) -> None:
        """Unmap what is recorded; the result is ignored."""
        ret = await self.region_process_range(
            region, 0, 0, region.nr_pages, self.region_chunk_unmap
        )
        if ret:
            note("region.unmap_failed", region=region.name, ret=ret)
