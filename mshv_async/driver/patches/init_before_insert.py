"""Initialise everything that the callback uses before the notifier is inserted (unmerged)."""

from __future__ import annotations

from errno import EEXIST, ENOMEM
from typing import TYPE_CHECKING

from mshv_async.driver.abi import HV_HYP_PAGE_SHIFT
from mshv_async.driver.cint import u64_shl
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.profiles.v7 import V7, RegionType
from mshv_async.driver.region import fill_region
from mshv_async.host import mmu_interval_notifier_insert
from mshv_async.sim import current

if TYPE_CHECKING:
    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.structures import MshvMemRegion, MshvPartition


class MutexBeforeInsert(V6):
    """The half of the change that all versions share."""

    async def region_movable_init(self, region: MshvMemRegion) -> bool:
        """Initialise the mutex, then register the notifier; False when that failed."""
        if not self.mmu_notifier:
            return False
        region.mutex.init()
        ret = await mmu_interval_notifier_insert(
            region.mni,
            current().mm,
            region.start_uaddr,
            u64_shl(region.nr_pages, HV_HYP_PAGE_SHIFT),
            self.region_interval_invalidate,
        )
        return ret == 0


class InitBeforeInsert(MutexBeforeInsert):
    """The mutex and the partition pointer are ready when the first callback can come."""

    async def partition_create_region(
        self, partition: MshvPartition, mem: MshvUserMemRegion, is_mmio: bool = False
    ) -> tuple[int, MshvMemRegion | None]:
        """As v6, with the partition pointer set before the notifier goes live."""
        if await self.partition_region_overlaps(partition, mem):
            return -EEXIST, None
        if not await self.region_alloc():
            return -ENOMEM, None
        region = self.new_region(mem.guest_pfn)
        fill_region(region, mem)
        region.partition = partition

        if not is_mmio:
            region.is_ram = True
            if not await self.region_movable_init(region):
                region.range_pinned = True
        return 0, region


class InitBeforeInsertV7(MutexBeforeInsert, V7):
    """The same from v7 on, where the type counts too."""

    async def partition_create_region(
        self, partition: MshvPartition, mem: MshvUserMemRegion, is_mmio: bool = False
    ) -> tuple[int, MshvMemRegion | None]:
        """As v7, with type and partition pointer set before the notifier goes live."""
        if await self.partition_region_overlaps(partition, mem):
            return -EEXIST, None
        if not await self.region_alloc():
            return -ENOMEM, None
        region = self.new_region(mem.guest_pfn)
        fill_region(region, mem)
        region.partition = partition

        region.mreg_type = RegionType.MMIO if is_mmio else RegionType.MOVABLE
        if not is_mmio and not await self.region_movable_init(region):
            region.mreg_type = RegionType.PINNED
        return 0, region


PATCH = Patch(
    name="init-before-insert",
    summary="Initialise mutex, partition pointer and type before the notifier is inserted",
    bugs=("D06",),
    variants=(
        Variant(InitBeforeInsert, on=("v6",)),
        Variant(InitBeforeInsertV7, on=("v7", "v9", "fix1")),
    ),
)
