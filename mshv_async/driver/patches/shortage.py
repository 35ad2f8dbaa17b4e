"""Taking guest pages back without memory, and maps that say what was missing instead of
depositing it. Shared by patches, not a patch itself.
"""  # noqa: D205 - one sentence and what it is for

from __future__ import annotations

from errno import ENOMEM
from typing import TYPE_CHECKING, Final

from mshv_async.driver.abi import MAP_NO_DEPOSIT, NEEDS_MEMORY
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.remap import partition_of
from mshv_async.hyperv import MAP_LARGE_PAGE, MAP_NO_ACCESS, HvStatus

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion

BLOCK: Final = 512


def shortage_of(ret: int) -> HvStatus | None:
    """Return the memory status that stopped a map without deposit, or None."""
    return HvStatus(-ret - NEEDS_MEMORY) if ret <= -NEEDS_MEMORY else None


class TakeBack(V6):
    """Making a span of a live region inaccessible; the region mutex is held."""

    async def region_take_back(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> int:
        """Map a span NO_ACCESS and forget its pages; should that fail, whole 2 MiB around it.

        All of the span, not what a failed map came to: pages behind that may be mapped from an
        earlier fault.
        """
        pt_id, gfn = partition_of(region).pt_id, region.start_gfn + page_offset
        flags = MAP_NO_ACCESS | MAP_NO_DEPOSIT
        ret, _ = await self.hv_map_gpa_batches(pt_id, gfn, page_count, flags, None, 0)
        if ret:
            return await self.region_no_access_blocks(region, page_offset, page_count)
        self.region_invalidate_pages(region, page_offset, page_count)
        return 0

    async def region_no_access_blocks(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> int:
        """Map every 2 MiB block NO_ACCESS that the span touches, and forget its pages.

        This needs no memory. A block that reaches beyond the region has no 2 MiB entry: of it
        only the span itself. -ENOMEM, or the hypercall's errno.
        """
        pt_id = partition_of(region).pt_id
        end = region.start_gfn + page_offset + page_count
        gfn = region.start_gfn + page_offset
        while gfn < end:
            lo = gfn - gfn % BLOCK
            hi = lo + BLOCK
            large = MAP_LARGE_PAGE
            if lo < region.start_gfn or hi > region.start_gfn + region.nr_pages:
                lo, hi, large = gfn, min(hi, end), 0
            flags = MAP_NO_ACCESS | MAP_NO_DEPOSIT | large
            ret, _ = await self.hv_map_gpa_batches(pt_id, lo, hi - lo, flags, None, 0)
            if ret:
                return -ENOMEM if shortage_of(ret) is not None else ret
            self.region_invalidate_pages(region, lo - region.start_gfn, hi - lo)
            gfn = hi
        return 0


class NoDeposit(TakeBack):
    """With MAP_NO_DEPOSIT a map that runs short returns -(NEEDS_MEMORY + status).

    What it did by then stays: who asked for it takes it back.
    """

    async def hv_deposit_for_map(self, partition_id: int, flags: int, status: HvStatus) -> int:
        """Deposit, unless the map is one without."""
        if flags & MAP_NO_DEPOSIT:
            return -(NEEDS_MEMORY + status)
        return await super().hv_deposit_for_map(partition_id, flags, status)

    async def hv_map_gpa_rollback(
        self, partition_id: int, gfn: int, done: int, flags: int, ret: int
    ) -> None:
        """Roll back other failures than a shortage, as before."""
        if shortage_of(ret) is None:
            await super().hv_map_gpa_rollback(partition_id, gfn, done, flags, ret)
