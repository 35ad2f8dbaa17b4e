"""SET_GUEST_MEMORY: map and unmap of guest memory, movable, pinned and device (spec.md 4.3)."""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from mshv_async.driver.abi import (
    HV_HYP_PAGE_SHIFT,
    HV_HYP_PAGE_SIZE,
    MSHV_PIN_PAGES_BATCH_SIZE,
    MSHV_SET_MEM_FLAGS_MASK,
    MSHV_SET_MEM_UNMAP,
    TASK_SIZE,
)
from mshv_async.driver.cint import pmd_aligned, u64_shl
from mshv_async.driver.fault import FaultPath
from mshv_async.driver.region import fill_region
from mshv_async.driver.structures import Page
from mshv_async.host import (
    insert_direct,
    mmap_read_lock,
    mmap_read_unlock,
    pin_user_pages_fast,
    vma_lookup,
)
from mshv_async.hyperv import (
    MAP_NO_ACCESS,
    MAP_PERMISSIONS_MASK,
    MAP_READABLE,
    MAP_WRITABLE,
    MMIO,
    RAM,
    SlatEntry,
)
from mshv_async.sim import current

if TYPE_CHECKING:
    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition
    from mshv_async.hyperv import HvPartition


class MemoryIoctl(FaultPath):
    """Map and unmap, called with the partition mutex held."""

    no_region_errno = EINVAL
    """What an unmap of a gfn outside all regions fails with."""

    async def partition_ioctl_set_memory(
        self, partition: MshvPartition, mem: MshvUserMemRegion
    ) -> int:
        """Check the argument and map or unmap; -EINVAL for a malformed one."""
        page_mask = HV_HYP_PAGE_SIZE - 1
        if (
            not mem.size
            or mem.size & page_mask
            or mem.userspace_addr & page_mask
            or mem.flags & ~MSHV_SET_MEM_FLAGS_MASK
            or mem.rsvd
        ):
            return -EINVAL
        if mem.flags & MSHV_SET_MEM_UNMAP:
            return await self.unmap_user_memory(partition, mem)
        return await self.map_user_memory(partition, mem)

    async def map_user_memory(self, partition: MshvPartition, mem: MshvUserMemRegion) -> int:
        """Make a range of the VMM's memory guest memory.

        -EINVAL: no VMA at its first address; -EEXIST: overlap; -ENOMEM. A failed mapping frees
        the region with its notifier still in the tree (D07). The list learns of the region last,
        when its pages are already NO_ACCESS (D05).
        """
        ret, is_mmio, mmio_pfn = await self.look_at_backing(mem)
        if ret:
            return ret
        ret, region = await self.partition_create_region(partition, mem, is_mmio)
        if region is None:
            return ret

        ret = await self.map_new_region(partition, region, mem, is_mmio, mmio_pfn)
        if ret:
            await self.region_free(region)
            return ret
        await self.partition_link_region(partition, region)
        return 0

    async def look_at_backing(self, mem: MshvUserMemRegion) -> tuple[int, bool, int]:
        """Look up the VMA at the first address; return errno, whether it is a device's, its pfn.

        Only that VMA is looked at, and nothing keeps it (D16).
        """
        if mem.userspace_addr + mem.size > TASK_SIZE:
            return -EINVAL, False, 0
        mm = current().mm
        await mmap_read_lock(mm)
        vma = vma_lookup(mm, mem.userspace_addr)
        await mmap_read_unlock(mm)
        if vma is None:
            return -EINVAL, False, 0
        if vma.raw:
            return 0, True, vma.pgoff
        return 0, False, 0

    async def map_new_region(
        self,
        partition: MshvPartition,
        region: MshvMemRegion,
        mem: MshvUserMemRegion,
        is_mmio: bool,
        mmio_pfn: int,
    ) -> int:
        """Give a new region its first SLAT entries, by its kind.

        A movable one is mapped NO_ACCESS throughout, so that a touch is a GPA_INTERCEPT.
        """
        if is_mmio:
            return await self.hv_call_map_mmio_pages(
                partition.pt_id, mem.guest_pfn, mmio_pfn, mem.size >> HV_HYP_PAGE_SHIFT
            )
        if region.range_pinned:
            return await self.prepare_pinned_region(region)
        return await self.region_remap_pages(region, MAP_NO_ACCESS, 0, region.nr_pages)

    async def prepare_pinned_region(self, region: MshvMemRegion) -> int:
        """Pin and map the whole region; a mapping failure is swallowed (D11)."""
        ret = await self.region_pin(region)
        if ret:
            return ret
        await self.region_map(region)
        return 0

    async def region_pin(self, region: MshvMemRegion) -> int:
        """Pin all pages, 65536 at a time; a short pin is taken as progress (D13)."""
        done = 0
        while done < region.nr_pages:
            batch = min(region.nr_pages - done, MSHV_PIN_PAGES_BATCH_SIZE)
            start = region.start_uaddr + done * HV_HYP_PAGE_SIZE
            ret, runs = await pin_user_pages_fast(current().mm, start, batch)
            if ret < 0:
                self.region_invalidate_pages(region, 0, done)
                return ret
            at = done
            for lo, hi in runs:
                region.pages.set(at, at + hi - lo, Page(lo))
                at += hi - lo
            done += ret
        first = region.pages.get(0)
        if first is not None and self.host_mem.folio(first.pfn).hugetlb:
            region.large_pages = True
        return 0

    async def unmap_user_memory(self, partition: MshvPartition, mem: MshvUserMemRegion) -> int:
        """Destroy the region that is exactly ``mem``; -EINVAL if it is no region's whole range."""
        region = await self.partition_region_by_gfn(partition, mem.guest_pfn)
        if region is None:
            return -self.no_region_errno
        if not is_exactly(region, mem):
            return -EINVAL
        await self.partition_destroy_region(region)
        return 0

    # -- set-up, without points ------------------------------------------------------------

    def setup_region(self, partition: MshvPartition, mem: MshvUserMemRegion) -> MshvMemRegion:
        """Build at once what ``map_user_memory`` leaves behind.

        The first VMA of its addresses, which there is, says whether it is a device's. Otherwise,
        for any size: one notifier, one run of NO_ACCESS entries, one list entry. Without MMU
        notifiers its pages are pinned and mapped, each of them.
        """
        region = self.new_region(mem.guest_pfn)
        fill_region(region, mem)
        region.partition = partition
        vma = partition.pt_mm.vmas.get(region.start_uaddr >> HV_HYP_PAGE_SHIFT)
        if vma is not None and vma.raw:
            self.setup_mmio(partition, region, vma.pgoff)
        elif self.mmu_notifier:
            region.is_ram = True
            self.setup_movable(partition, region)
        else:
            region.is_ram = True
            self.setup_pinned(partition, region)
        partition.pt_mem_regions.add_head(region)
        return region

    def setup_mmio(self, partition: MshvPartition, region: MshvMemRegion, mmio_spa: int) -> None:
        """Map device memory, consecutive pages from ``mmio_spa`` on."""
        entry = SlatEntry(MMIO, mmio_spa, MAP_READABLE | MAP_WRITABLE)
        hv_partition = self.hv_partition_of(partition)
        hv_partition.map_direct(region.start_gfn, region.nr_pages, entry)

    def setup_movable(self, partition: MshvPartition, region: MshvMemRegion) -> None:
        """Register the notifier, and make all pages inaccessible."""
        region.mutex.init()
        insert_direct(
            region.mni,
            partition.pt_mm,
            region.start_uaddr,
            u64_shl(region.nr_pages, HV_HYP_PAGE_SHIFT),
            self.region_interval_invalidate,
        )
        self.hv_partition_of(partition).no_access_direct(region.start_gfn, region.nr_pages)

    def setup_pinned(self, partition: MshvPartition, region: MshvMemRegion) -> None:
        """Pin, record and map all pages; the region's addresses have a VMA."""
        mm = partition.pt_mm
        first = region.start_uaddr >> HV_HYP_PAGE_SHIFT
        mm.populate(region.start_uaddr, region.nr_pages)
        for lo, hi, pte in mm.ptes.runs(first, first + region.nr_pages):
            mm.host.pin(pte.pfn, hi - lo)
            region.pages.set(lo - first, hi - first, Page(pte.pfn))
        region.range_pinned = True
        head = region.pages.get(0)
        region.large_pages = head is not None and self.host_mem.folio(head.pfn).hugetlb
        hv_partition = self.hv_partition_of(partition)
        rights = region.hv_map_flags & MAP_PERMISSIONS_MASK
        for lo, hi, page in region.pages.runs(0, region.nr_pages):
            for at, end, large in self.setup_chunks(region, lo, hi):
                entry = SlatEntry(RAM, page.pfn + at - lo, rights, large, adjustable=True)
                hv_partition.map_direct(region.start_gfn + at, end - at, entry)

    def setup_chunks(self, region: MshvMemRegion, lo: int, hi: int) -> list[tuple[int, int, bool]]:
        """Cut a run of recorded pages into what set-up maps large, and the rest."""
        whole = pmd_aligned(region.start_gfn) and pmd_aligned(region.nr_pages)
        return [(lo, hi, region.large_pages and whole)]

    def hv_partition_of(self, partition: MshvPartition) -> HvPartition:
        """Return the hypervisor's side of a partition that exists."""
        hv_partition = self.hv.partition(partition.pt_id)
        assert hv_partition is not None
        return hv_partition


def is_exactly(region: MshvMemRegion, mem: MshvUserMemRegion) -> bool:
    """Say whether an unmap's argument is the region to the page; there is no partial unmap."""
    return (
        region.start_uaddr == mem.userspace_addr
        and region.start_gfn == mem.guest_pfn
        and region.nr_pages == mem.size >> HV_HYP_PAGE_SHIFT
    )
