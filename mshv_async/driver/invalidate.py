"""The host takes pages back: the region's notifier and its callback (spec.md 4.5)."""

from __future__ import annotations

from errno import EPERM
from typing import TYPE_CHECKING

from mshv_async.driver.abi import HV_HYP_PAGE_SHIFT
from mshv_async.driver.cint import u64_add, u64_shl, u64_sub
from mshv_async.driver.remap import RegionRemap
from mshv_async.driver.structures import RegionNotifier
from mshv_async.host import (
    mmu_interval_notifier_insert,
    mmu_interval_notifier_remove,
    mmu_interval_set_seq,
    mmu_notifier_range_blockable,
)
from mshv_async.hyperv import MAP_NO_ACCESS
from mshv_async.sim import UNINIT, current, note, step, warn

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion
    from mshv_async.host import MmuIntervalNotifier, MmuNotifierRange
    from mshv_async.sim import Seq


class RegionInvalidate(RegionRemap):
    """The notifier's life with a movable region, and the callback that clears the SLAT."""

    async def region_movable_init(self, region: MshvMemRegion) -> bool:
        """Register the notifier, then initialise the mutex that its callback takes (D06).

        False when registration failed, for whatever reason; the caller then pins.
        """
        if not self.mmu_notifier:
            return False
        ret = await mmu_interval_notifier_insert(
            region.mni,
            current().mm,
            region.start_uaddr,
            u64_shl(region.nr_pages, HV_HYP_PAGE_SHIFT),
            self.region_interval_invalidate,
        )
        if ret:
            return False
        await step("mutex.init", region.mutex, write=True)
        region.mutex.init()
        return True

    async def region_movable_fini(self, region: MshvMemRegion) -> None:
        """Remove the notifier and wait until no callback runs; nothing to do if pinned."""
        if region.range_pinned:
            return
        await mmu_interval_notifier_remove(region.mni)

    async def region_interval_invalidate(
        self, mni: MmuIntervalNotifier, range: MmuNotifierRange, cur_seq: Seq
    ) -> bool:
        """Make the part of ``range`` in the region inaccessible before the host takes its pages.

        False: the range could not be blocked for and the mutex is taken, or NO_ACCESS failed.
        Both go through one label, which unlocks nothing (A01) and prints offset and count,
        computed or not (A07).
        """
        region = region_of(mni)
        page_offset, page_count = UNINIT, UNINIT
        ret = -EPERM

        if mmu_notifier_range_blockable(range):
            await region.mutex.lock()
        elif not await region.mutex.trylock():
            return invalidation_failed(region, range, page_offset, page_count, ret)

        await mmu_interval_set_seq(mni, cur_seq)

        page_offset, page_count = clamp_to_region(region, range)
        ret = await self.region_remap_pages(region, MAP_NO_ACCESS, page_offset, page_count)
        if ret:
            return invalidation_failed(region, range, page_offset, page_count, ret)

        self.region_invalidate_pages(region, page_offset, page_count)
        await region.mutex.unlock()
        return True


def region_of(mni: MmuIntervalNotifier) -> MshvMemRegion:
    """Return the region that a notifier is embedded in (``container_of``)."""
    assert isinstance(mni, RegionNotifier)
    return mni.region


def clamp_to_region(region: MshvMemRegion, range: MmuNotifierRange) -> tuple[int, int]:
    """Return the pages of a host range that are the region's: offset and count.

    Wraps as C does when they do not meet; the notifier core never asks for that (A12).
    """
    region_end = u64_add(region.start_uaddr, u64_shl(region.nr_pages, HV_HYP_PAGE_SHIFT))
    mstart = max(range.start, region.start_uaddr)
    mend = min(range.end, region_end)
    page_offset = u64_sub(mstart, region.start_uaddr) >> HV_HYP_PAGE_SHIFT
    page_count = u64_sub(mend, mstart) >> HV_HYP_PAGE_SHIFT
    return page_offset, page_count


INVALIDATE_WARNING = "region_interval_invalidate: failed to invalidate region"


def invalidation_failed(
    region: MshvMemRegion, range: MmuNotifierRange, page_offset: int, page_count: int, ret: int
) -> bool:
    """Warn once and return False; the text and its numbers are made only the first time."""
    if INVALIDATE_WARNING not in current().rt.warnings:
        note(
            "region.invalidate_failed",
            region=region.name,
            start=range.start,
            end=range.end,
            first_page=page_offset,
            last_page=page_offset + page_count - 1,
            ret=ret,
        )
        warn(INVALIDATE_WARNING)
    return False
