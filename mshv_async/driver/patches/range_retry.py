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
from mshv_async.sim import current, kfree, kzalloc

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion
    from mshv_async.host import HmmRange


class RangeRetry(V6):
    """Each fault has a notifier of its own, for just the span that it faults in.

    Its sequence moves with invalidations of the span and stands still for all others. Its callback
    is the region's, so whichever of the two notifiers is called last leaves the span inaccessible.
    """

    async def region_fault_alloc(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> HmmRange | None:
        """As before, with a notifier for the span; None also if the address space is gone."""
        hmm_range = await super().region_fault_alloc(region, page_offset, page_count)
        if hmm_range is None:
            return None
        mm = mm_of(region)
        if await mmget_not_zero(mm):
            mni = kzalloc(RegionNotifier, f"{region.name}.fault.{current().name}", region)
            start, length = hmm_range.start, hmm_range.end - hmm_range.start
            ret = await mmu_interval_notifier_insert(
                mni, mm, start, length, self.region_interval_invalidate
            )
            await mmput(mm)
            if not ret:
                hmm_range.notifier = mni
                return hmm_range
            await kfree(mni)
        await super().region_fault_free(hmm_range)
        return None

    async def region_fault_free(self, range: HmmRange) -> None:
        """End the notifier, which waits for its callbacks, and free."""
        await mmu_interval_notifier_remove(range.notifier)
        await kfree(range.notifier)
        await super().region_fault_free(range)


PATCH = Patch(
    name="range-retry",
    summary="Give each fault a notifier for its own pages, so that others do not make it retry",
    bugs=("C03",),
    variants=(Variant(RangeRetry, on=("v6", "v7", "v9", "fix1")),),
    extends=("region_fault_alloc", "region_fault_free"),
)
