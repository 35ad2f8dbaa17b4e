"""Deposit memory for a fault only after the region mutex was released; no upstream change (C23)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.abi import MAP_NO_DEPOSIT
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.patches.shortage import NoDeposit, shortage_of
from mshv_async.driver.profiles.v7 import V7
from mshv_async.driver.remap import partition_of
from mshv_async.hyperv import MAP_NO_ACCESS
from mshv_async.sim import current

if TYPE_CHECKING:
    from mshv_async.driver.profiles.v7 import ChunkHandler
    from mshv_async.driver.structures import MshvMemRegion


class DepositOutsideMutex(NoDeposit):
    """A fault that runs short lets the mutex go, deposits, and begins again.

    The deposit allocates, the allocation may reclaim, and reclaim may call back for this very
    region: not under its mutex. What was mapped by then is inaccessible again meanwhile, and
    forgotten. Invalidations keep depositing as they did; ``no-deposit-in-callback`` is for them.
    """

    async def region_range_fault(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> int:
        """As before; on a shortage deposit without the mutex and fault the pages in anew."""
        while True:
            ret = await super().region_range_fault(region, page_offset, page_count)
            status = shortage_of(ret)
            if status is None:
                return ret
            whose, pages = self.hv_map_deposit(partition_of(region).pt_id, status)
            ret = await self.hv_call_deposit_pages(whose, pages)
            if ret:
                return ret

    async def region_remap_pages(
        self, region: MshvMemRegion, map_flags: int, page_offset: int, page_count: int
    ) -> int:
        """As before; no deposit for a map, as opposed to NO_ACCESS, under the mutex."""
        if not map_flags & MAP_NO_ACCESS and region.mutex.owner is current():
            map_flags |= MAP_NO_DEPOSIT
        ret = await super().region_remap_pages(region, map_flags, page_offset, page_count)
        if shortage_of(ret) is not None:
            await self.region_ran_short(region, page_offset, page_count)
        return ret

    async def region_ran_short(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> None:
        """Take the span back before the mutex goes."""
        await self.region_take_back(region, page_offset, page_count)


class DepositOutsideMutexV7(DepositOutsideMutex, V7):
    """The same with chunks: those before the one that ran short stay mapped."""

    async def region_process_chunk(
        self,
        region: MshvMemRegion,
        flags: int,
        page_offset: int,
        page_count: int,
        handler: ChunkHandler,
    ) -> int:
        """As before; all from a chunk that ran short on is taken back."""
        ret = await super().region_process_chunk(region, flags, page_offset, page_count, handler)
        short = shortage_of(ret) is not None and not flags & MAP_NO_ACCESS
        if short and region.pages.get(page_offset) is not None:
            await self.region_take_back(region, page_offset, page_count)
        return ret

    async def region_ran_short(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> None:
        """Nothing is left to take back; see ``region_process_chunk``."""


PATCH = Patch(
    name="deposit-outside-mutex",
    summary="Deposit memory that a fault needs after releasing the region mutex, then fault again",
    bugs=("C23",),
    variants=(
        Variant(DepositOutsideMutex, on=("v6",)),
        Variant(DepositOutsideMutexV7, on=("v7", "v9", "fix1")),
    ),
    extends=("region_range_fault", "region_remap_pages", "region_process_chunk"),
)
