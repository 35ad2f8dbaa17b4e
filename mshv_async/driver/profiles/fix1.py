"""The fixes merged from December 2025 to March 2026."""

from __future__ import annotations

from errno import ENOMEM, EPERM
from typing import TYPE_CHECKING, Final

from mshv_async.driver.abi import (
    HV_CONTIGUOUS_DEPOSIT_PAGES,
    HV_HYP_PAGE_SIZE,
    MSHV_PIN_PAGES_BATCH_SIZE,
)
from mshv_async.driver.invalidate import clamp_to_region, invalidation_failed, region_of
from mshv_async.driver.profiles.v7 import RegionType
from mshv_async.driver.profiles.v9 import V9
from mshv_async.driver.region import access_permitted
from mshv_async.driver.strides import AlignedStride
from mshv_async.driver.structures import Page
from mshv_async.host import (
    mmu_interval_set_seq,
    mmu_notifier_range_blockable,
    pin_user_pages_fast,
)
from mshv_async.hyperv import MAP_NO_ACCESS, HvStatus
from mshv_async.sim import current

if TYPE_CHECKING:
    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.base import DriverBase
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition, MshvVp
    from mshv_async.host import MmuIntervalNotifier, MmuNotifierRange
    from mshv_async.sim import Seq


OF_ROOT: Final = frozenset(
    {HvStatus.INSUFFICIENT_ROOT_MEMORY, HvStatus.INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY}
)
CONTIGUOUS: Final = frozenset(
    {HvStatus.INSUFFICIENT_CONTIGUOUS_MEMORY, HvStatus.INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY}
)
MEMORY_STATUSES: Final = OF_ROOT | CONTIGUOUS | {HvStatus.INSUFFICIENT_MEMORY}


def deposit_by_status(driver: DriverBase, partition_id: int, status: HvStatus) -> tuple[int, int]:
    """Return whose pool is short by a status, and how many pages to deposit there."""
    target = driver.hv.root.id if status in OF_ROOT else partition_id
    return target, HV_CONTIGUOUS_DEPOSIT_PAGES if status in CONTIGUOUS else 1


class Fix1(AlignedStride, V9):
    """The fixes up to March 2026: A01, A07, A11, B05, B06, C01, D07, D13.

    The callback computes its span before it takes the mutex (A07) and releases the mutex when
    NO_ACCESS fails (A01). The error path of a map drops its reference, which ends the notifier
    (D07). A short pin is an error and releases what it got (D13). An access that the region does
    not permit goes to the VMM at once (C01).

    *Strides* (``AlignedStride``): a chunk is large only from the head of a 2 MiB folio on, at an
    aligned gfn, with an aligned number of pages to go. An aligned head of another order is still
    refused (B09).

    *Memory statuses* (February 2026): all four mean that memory is short. Calls deposit what the
    status names, but the map helper gives its 256 pages to the child in any case (E05, E10).
    """

    def hv_result_needs_memory(self, status: HvStatus) -> bool:
        """Say whether a deposit would help: for any of the four memory statuses."""
        return status in MEMORY_STATUSES

    async def hv_deposit_memory(self, partition_id: int, status: HvStatus) -> int:
        """Deposit what a call was short of: in the root's pool or the partition's, 1 page or 8."""
        return await self.hv_call_deposit_pages(*deposit_by_status(self, partition_id, status))

    async def region_interval_invalidate(
        self, mni: MmuIntervalNotifier, range: MmuNotifierRange, cur_seq: Seq
    ) -> bool:
        """Make the part of ``range`` in the region inaccessible; the mutex is always released."""
        region = region_of(mni)
        ret = -EPERM
        page_offset, page_count = clamp_to_region(region, range)

        if mmu_notifier_range_blockable(range):
            await region.mutex.lock()
        elif not await region.mutex.trylock():
            return invalidation_failed(region, range, page_offset, page_count, ret)

        await mmu_interval_set_seq(mni, cur_seq)

        ret = await self.region_remap_pages(region, MAP_NO_ACCESS, page_offset, page_count)
        if ret:
            await region.mutex.unlock()
            return invalidation_failed(region, range, page_offset, page_count, ret)

        self.region_invalidate_pages(region, page_offset, page_count)
        await region.mutex.unlock()
        return True

    async def map_user_memory(self, partition: MshvPartition, mem: MshvUserMemRegion) -> int:
        """As before; on failure the reference is dropped, and the region destroyed in full."""
        ret, is_mmio, mmio_pfn = await self.look_at_backing(mem)
        if ret:
            return ret
        ret, region = await self.partition_create_region(partition, mem, is_mmio)
        if region is None:
            return ret

        ret = await self.map_new_region(partition, region, mem, is_mmio, mmio_pfn)
        if ret:
            await self.region_put(region)
            return ret
        await self.partition_link_region(partition, region)
        return 0

    async def region_pin(self, region: MshvMemRegion) -> int:
        """Pin all pages; fewer than asked for is -ENOMEM, with all released."""
        done = 0
        while done < region.nr_pages:
            batch = min(region.nr_pages - done, MSHV_PIN_PAGES_BATCH_SIZE)
            start = region.start_uaddr + done * HV_HYP_PAGE_SIZE
            ret, runs = await pin_user_pages_fast(current().mm, start, batch)
            at = done
            for lo, hi in runs:
                region.pages.set(at, at + hi - lo, Page(lo))
                at += hi - lo
            if ret != batch:
                self.region_invalidate_pages(region, 0, at)
                return ret if ret < 0 else -ENOMEM
            done += ret
        return 0

    async def handle_gpa_intercept(self, vp: MshvVp) -> bool:
        """As before, after a look at whether the region permits the access at all."""
        message = vp.vp_intercept_msg_page.intercept_message
        region = await self.partition_region_by_gfn_get(vp.vp_partition, message.gfn)
        if region is None:
            return False
        handled = False
        permitted = access_permitted(region, message.access)
        if permitted and region.mreg_type == RegionType.MOVABLE:
            handled = await self.region_handle_gfn_fault(region, message.gfn)
        await self.region_put(region)
        return handled
