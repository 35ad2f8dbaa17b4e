"""Drivers without the defects that every released version still has."""

from __future__ import annotations

from mshv_async.driver import EFAULT, MshvMemRegion, RegionType, kzalloc, resolve_driver
from mshv_async.host import PAGE_SHIFT, mmget_not_zero, mmput
from mshv_async.sim import Completion, Refcount

_PATCHES = (
    "init-before-insert",
    "list-before-map",
    "quiet-trylock-failure",
    "huge-order-stride",
    "unmap-mmio",
    "publish-before-fd",
    "count-before-status",
    "rollback-in-pages",
    "deposit-by-status",
    "return-map-error",
)
_BASE = resolve_driver("+".join(("fix1", *_PATCHES))).cls


class WaitedRegion(MshvMemRegion):
    """A region whose last user says so."""

    __slots__ = ("unused",)
    _embedded = (*MshvMemRegion._embedded, "unused")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.unused = Completion(f"{name}.unused")


class Sound(_BASE):
    """Unmap waits for the faults under way, and clears the SLAT while the notifier still lives.

    The first keeps a new region at the same guest pages from being unmapped by the old one's
    destruction, the second leaves no moment in which the host frees pages unheard. A fault keeps
    the address space from being dismantled, so that it brings no page into one that is swept. A
    large page is taken for one only if all of it is there: of a huge page that was partly
    discarded, the head may be, and others lie where its pages lay.
    """

    def chunk_stride(self, region, page_offset, page_count):
        stride = super().chunk_stride(region, page_offset, page_count)
        if stride <= 1:
            return stride
        runs = region.pages.runs(page_offset, page_offset + stride)
        return stride if len(runs) == 1 and runs[0][1] == page_offset + stride else 1

    async def region_range_fault(self, region, page_offset, page_count):
        mm = region.mni.mm
        if not await mmget_not_zero(mm):
            return -EFAULT
        ret = await super().region_range_fault(region, page_offset, page_count)
        await mmput(mm)
        return ret

    def new_region(self, guest_pfn):
        region = kzalloc(WaitedRegion, f"region@{guest_pfn:#x}")
        region.mreg_refcount = Refcount(f"{region.name}.refcount")
        region.mreg_type = RegionType.PINNED
        return region

    async def region_put(self, region):
        if region.mreg_refcount.dec_and_test():
            await region.unused.complete()

    async def partition_destroy_region(self, region):
        await self.partition_unlink_region(region.partition, region)
        await self.region_put(region)
        await region.unused.wait()
        await self.region_release(region)

    async def region_release(self, region):
        if region.mreg_type != RegionType.MOVABLE:
            await super().region_release(region)
            return
        await region.mutex.lock()
        await self.region_unmap(region)
        self.region_invalidate_pages(region, 0, region.nr_pages)
        await region.mutex.unlock()
        await self.region_movable_fini(region)
        await self.region_free(region)


class Dirtying(Sound):
    """What the guest may write to is dirty from the moment that it is mapped (A13)."""

    def region_record_pages(self, region, page_offset, hmm_pfns):
        super().region_record_pages(region, page_offset, hmm_pfns)
        ptes = region.mni.mm.ptes
        lo = (region.start_uaddr >> PAGE_SHIFT) + page_offset
        for a, b, pte in ptes.runs(lo, lo + hmm_pfns.count):
            ptes.set(a, b, pte._replace(dirty=True))
