"""Retry a fault only when its own pages were invalidated; no upstream change (C03)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.fault import mm_of
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.structures import RegionNotifier
from mshv_async.host import (
    mmget_not_zero,
    mmput,
    mmu_interval_notifier_insert,
    mmu_interval_notifier_remove,
)
from mshv_async.sim import SharedDict, kfree, kzalloc

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion
    from mshv_async.host import HmmRange


class RangeRetry(V6):
    """Each window of a region that was ever faulted in has a notifier of its own.

    Its sequence moves with invalidations of the window and stands still for all others. Its
    callback is the region's, so whichever of the two notifiers is called last leaves the pages
    inaccessible. It stays until the region goes: to remove it after each fault would wait for
    open brackets, and lose the pages to them before the guest had its turn.
    """

    def new_region(self, guest_pfn: int) -> MshvMemRegion:
        """Allocate a region with room for its windows."""
        region = super().new_region(guest_pfn)
        region.mreg_windows = SharedDict(f"{region.name}.windows")
        return region

    async def region_fault_alloc(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> HmmRange | None:
        """As before, with the window's notifier; None also if the address space is gone."""
        hmm_range = await super().region_fault_alloc(region, page_offset, page_count)
        if hmm_range is None:
            return None
        mm = mm_of(region)
        window = None
        if await mmget_not_zero(mm):
            window = await self.region_window(region, hmm_range)
            await mmput(mm)
        if window is None:
            await self.region_fault_free(page_count)
            return None
        hmm_range.notifier = window
        return hmm_range

    async def region_window(self, region: MshvMemRegion, range: HmmRange) -> RegionNotifier | None:
        """Return the notifier of a window, made by its first fault; the mutex lets one make it."""
        windows = region.mreg_windows
        assert windows is not None
        await region.mutex.lock()
        window = windows.get(range.start)
        if window is None:
            made = kzalloc(RegionNotifier, f"{region.name}.window{len(windows)}", region)
            length = range.end - range.start
            ret = await mmu_interval_notifier_insert(
                made, mm_of(region), range.start, length, self.region_interval_invalidate
            )
            if not ret:
                windows[range.start] = window = made
        await region.mutex.unlock()
        return window

    async def region_movable_fini(self, region: MshvMemRegion) -> None:
        """Remove the windows' notifiers, then the region's."""
        windows = region.mreg_windows
        assert windows is not None
        for start in windows:
            window = windows.pop(start)
            assert window is not None
            await mmu_interval_notifier_remove(window)
            await kfree(window)
        await super().region_movable_fini(region)


PATCH = Patch(
    name="range-retry",
    summary="Give each fault window a notifier, so that other pages do not make a fault retry",
    bugs=("C03",),
    variants=(Variant(RangeRetry, on=("v6", "v7", "v9", "fix1")),),
    extends=("new_region", "region_fault_alloc", "region_movable_fini"),
)
