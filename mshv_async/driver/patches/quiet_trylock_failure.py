"""A non-blockable invalidation that finds the mutex taken says so without a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.invalidate import clamp_to_region, invalidation_failed, region_of
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.host import mmu_interval_set_seq, mmu_notifier_range_blockable
from mshv_async.hyperv import MAP_NO_ACCESS

if TYPE_CHECKING:
    from mshv_async.host import MmuIntervalNotifier, MmuNotifierRange
    from mshv_async.sim import Seq


class QuietTrylockFailure(V6):
    """The refusal is legal: the caller retries. It also never reaches the numbers of A07."""

    async def region_interval_invalidate(
        self, mni: MmuIntervalNotifier, range: MmuNotifierRange, cur_seq: Seq
    ) -> bool:
        """As v6, but a failed trylock returns False and nothing else."""
        region = region_of(mni)
        if mmu_notifier_range_blockable(range):
            await region.mutex.lock()
        elif not await region.mutex.trylock():
            return False

        await mmu_interval_set_seq(mni, cur_seq)

        page_offset, page_count = clamp_to_region(region, range)
        ret = await self.region_remap_pages(region, MAP_NO_ACCESS, page_offset, page_count)
        if ret:
            return invalidation_failed(region, range, page_offset, page_count, ret)

        self.region_invalidate_pages(region, page_offset, page_count)
        await region.mutex.unlock()
        return True


class QuietAndUnlocking(V6):
    """The same on top of ``unlock-on-failure``, or of a profile that has it."""

    async def region_interval_invalidate(
        self, mni: MmuIntervalNotifier, range: MmuNotifierRange, cur_seq: Seq
    ) -> bool:
        """As fix1, but a failed trylock returns False and nothing else."""
        region = region_of(mni)
        page_offset, page_count = clamp_to_region(region, range)
        if mmu_notifier_range_blockable(range):
            await region.mutex.lock()
        elif not await region.mutex.trylock():
            return False

        await mmu_interval_set_seq(mni, cur_seq)

        ret = await self.region_remap_pages(region, MAP_NO_ACCESS, page_offset, page_count)
        if ret:
            await region.mutex.unlock()
            return invalidation_failed(region, range, page_offset, page_count, ret)

        self.region_invalidate_pages(region, page_offset, page_count)
        await region.mutex.unlock()
        return True


_UNFIXED = ("v6", "v7", "v9")

PATCH = Patch(
    name="quiet-trylock-failure",
    summary="Refuse a non-blockable invalidation without a warning",
    bugs=("A08", "A07"),
    variants=(
        Variant(QuietTrylockFailure, on=_UNFIXED),
        Variant(QuietAndUnlocking, on=("fix1",)),
        Variant(QuietTrylockFailure, on=_UNFIXED, after=("range-before-lock",)),
        Variant(QuietAndUnlocking, on=_UNFIXED, after=("unlock-on-failure",)),
        Variant(QuietAndUnlocking, on=_UNFIXED, after=("unlock-on-failure", "range-before-lock")),
    ),
)
