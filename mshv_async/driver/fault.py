"""A guest touched an inaccessible page: resolve it through HMM and map it (spec.md 4.4)."""

from __future__ import annotations

from errno import EBUSY, ENODEV, ENOMEM
from typing import TYPE_CHECKING

from mshv_async.driver.abi import HV_HYP_PAGE_SIZE, MSHV_MAP_FAULT_IN_PAGES, POINTER_BYTES
from mshv_async.driver.cint import align_down, u64_sub
from mshv_async.driver.region import RegionObjects
from mshv_async.driver.structures import Page
from mshv_async.host import (
    HMM_PFN_REQ_FAULT,
    HMM_PFN_REQ_WRITE,
    ZERO_PFN,
    HmmPfns,
    HmmRange,
    hmm_range_fault,
    mmap_read_lock,
    mmap_read_unlock,
    mmu_interval_read_begin,
    mmu_interval_read_retry,
)
from mshv_async.sim import cond_resched, current, oops, probe, warn

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion, MshvVp
    from mshv_async.host import Mm


class FaultPath(RegionObjects):
    """From a memory intercept to a mapped window of the region."""

    async def handle_gpa_intercept(self, vp: MshvVp) -> bool:
        """Serve the memory intercept in the VP's message page; False: it is for the VMM.

        Neither the rights of the region nor its life time are looked at (C01, D01).
        """
        partition = vp.vp_partition
        gfn = vp.vp_intercept_msg_page.intercept_message.gfn

        region = await self.partition_region_by_gfn(partition, gfn)
        if region is None:
            return False
        if not region.is_ram:
            warn("handle_gpa_intercept: not RAM")
            return False
        if region.range_pinned:
            warn("handle_gpa_intercept: pinned region")
            return False
        return await self.region_handle_gfn_fault(region, gfn)

    async def region_handle_gfn_fault(self, region: MshvMemRegion, gfn: int) -> bool:
        """Map the window of up to 512 pages around ``gfn``; False: it failed."""
        if region.range_pinned:
            warn("region_handle_gfn_fault: pinned region")
            return False
        page_offset, page_count = self.fault_window(region, gfn)
        ret = await self.region_range_fault(region, page_offset, page_count)
        return self.gfn_fault_served(ret)

    def gfn_fault_served(self, ret: int) -> bool:
        """Say whether a fault with that result was served; a failure is warned about."""
        if ret:
            self.gfn_fault_warning()
        return ret == 0

    def gfn_fault_warning(self) -> None:
        """Warn of a failed fault, once; the VMM can bring it about (C22)."""
        warn("region_handle_gfn_fault: GPA intercept failed")

    def fault_window(self, region: MshvMemRegion, gfn: int) -> tuple[int, int]:
        """Return offset and count of the pages to fault in, aligned to the region (B03)."""
        page_offset = align_down(u64_sub(gfn, region.start_gfn), MSHV_MAP_FAULT_IN_PAGES)
        return page_offset, min(u64_sub(region.nr_pages, page_offset), MSHV_MAP_FAULT_IN_PAGES)

    async def region_range_fault(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> int:
        """Fault the pages in for write, record them and map them with the region's rights.

        Repeats while the host changes the range: without bound, deaf to signals (C02).
        """
        if not self.mmu_notifier:
            return -ENODEV
        hmm_range = await self.region_fault_alloc(region, page_offset, page_count)
        if hmm_range is None:
            return -ENOMEM
        while True:
            ret = await self.region_hmm_fault_and_lock(region, hmm_range)
            if ret != -EBUSY:
                break
            hmm_range = hmm_range.again()
        if not ret:
            self.region_record_pages(region, page_offset, hmm_range.hmm_pfns)
            ret = await self.region_remap_pages(
                region, region.hv_map_flags, page_offset, page_count
            )
            await region.mutex.unlock()
        await self.region_fault_free(page_count)
        return ret

    async def region_fault_alloc(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> HmmRange | None:
        """Allocate the array for a span's pages and make the request; None: no memory."""
        if not await self.host_mem.might_alloc(1, "fault.pfns"):
            return None
        probe("driver.alloc", current(), page_count * POINTER_BYTES, "fault.pfns")
        start = region.start_uaddr + page_offset * HV_HYP_PAGE_SIZE
        return HmmRange(
            notifier=region.mni,
            start=start,
            end=start + page_count * HV_HYP_PAGE_SIZE,
            hmm_pfns=HmmPfns(page_count),
            default_flags=HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
        )

    async def region_fault_free(self, page_count: int) -> None:
        """Free the array of a request."""
        probe("driver.free", current(), page_count * POINTER_BYTES, "fault.pfns")

    async def region_hmm_fault_and_lock(self, region: MshvMemRegion, range: HmmRange) -> int:
        """Fill ``range`` and return 0 with the region mutex held and the result still true.

        -EBUSY: the host changed something, try again. Other errnos are HMM's.
        """
        range.notifier_seq = await mmu_interval_read_begin(range.notifier)
        await mmap_read_lock(mm_of(region))
        ret = await hmm_range_fault(range)
        await mmap_read_unlock(mm_of(region))
        if ret:
            return ret

        await region.mutex.lock()
        if await mmu_interval_read_retry(range.notifier, range.notifier_seq):
            await region.mutex.unlock()
            await cond_resched()
            return -EBUSY
        return 0

    def region_record_pages(
        self, region: MshvMemRegion, page_offset: int, hmm_pfns: HmmPfns
    ) -> None:
        """Store the pages that HMM found in the page array; VALID is not tested (C15).

        A run of words for the zero page names the same page throughout, unlike a run of the array.
        """
        for lo, hi, word in hmm_pfns.runs(0, hmm_pfns.count):
            span = hi - lo if word.pfn != ZERO_PFN else 1
            for at in range(page_offset + lo, page_offset + hi, span):
                region.pages.set(at, at + span, Page(word.pfn))
        first = region.pages.get(page_offset)
        if first is not None and self.host_mem.folio(first.pfn).hugetlb:
            region.large_pages = True


def mm_of(region: MshvMemRegion) -> Mm:
    """Follow the notifier's pointer to the address space; ``oops`` if it is NULL."""
    mm = region.mni.mm
    if mm is None:
        oops("NULL mm", region)
    return mm
