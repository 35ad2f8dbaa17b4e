"""Release the region mutex when NO_ACCESS fails (merged in 6.19-rc6)."""

from __future__ import annotations

from errno import EPERM
from typing import TYPE_CHECKING

from mshv_async.driver.invalidate import clamp_to_region, invalidation_failed, region_of
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.fix1 import Fix1
from mshv_async.driver.profiles.v6 import V6
from mshv_async.host import mmu_interval_set_seq, mmu_notifier_range_blockable
from mshv_async.hyperv import MAP_NO_ACCESS
from mshv_async.sim import UNINIT

if TYPE_CHECKING:
    from mshv_async.host import MmuIntervalNotifier, MmuNotifierRange
    from mshv_async.sim import Seq


class UnlockOnFailure(V6):
    """The two ways to the warning part: with the mutex held, and without."""

    async def region_interval_invalidate(
        self, mni: MmuIntervalNotifier, range: MmuNotifierRange, cur_seq: Seq
    ) -> bool:
        """As v6, with an unlock before the warning when the hypercall failed."""
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
            await region.mutex.unlock()
            return invalidation_failed(region, range, page_offset, page_count, ret)

        self.region_invalidate_pages(region, page_offset, page_count)
        await region.mutex.unlock()
        return True


class UnlockAfterRangeBeforeLock(V6):
    """Both fixes of the callback: what ``fix1`` has."""

    region_interval_invalidate = Fix1.region_interval_invalidate


PATCH = Patch(
    name="unlock-on-failure",
    summary="Release the region mutex when the invalidation's NO_ACCESS map fails",
    bugs=("A01",),
    variants=(
        Variant(UnlockOnFailure, on=("v6", "v7", "v9")),
        Variant(UnlockAfterRangeBeforeLock, on=("v6", "v7", "v9"), after=("range-before-lock",)),
    ),
)
