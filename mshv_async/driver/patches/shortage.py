"""Maps that do not deposit, but say what was missing; shared by patches, not a patch itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.abi import HV_LARGE_PAGE_SHIFT, MAP_NO_DEPOSIT, NEEDS_MEMORY
from mshv_async.driver.profiles.v6 import V6
from mshv_async.hyperv import MAP_LARGE_PAGE, MAP_NO_ACCESS, HvStatus

if TYPE_CHECKING:
    from mshv_async.hyperv import HvResult


def shortage_of(ret: int) -> HvStatus | None:
    """Return the memory status that stopped a map without deposit, or None."""
    return HvStatus(-ret - NEEDS_MEMORY) if ret <= -NEEDS_MEMORY else None


class NoDeposit(V6):
    """With MAP_NO_DEPOSIT a map that runs short returns -(NEEDS_MEMORY + status).

    What it had mapped by then is made inaccessible again, which needs no memory; what it had made
    inaccessible stays so.
    """

    async def hv_deposit_for_map(self, partition_id: int, flags: int, status: HvStatus) -> int:
        """Deposit, unless the map is one without."""
        if flags & MAP_NO_DEPOSIT:
            return -(NEEDS_MEMORY + status)
        return await super().hv_deposit_for_map(partition_id, flags, status)

    async def hv_map_gpa_failed(
        self, partition_id: int, flags: int, result: HvResult
    ) -> tuple[int, int]:
        """As before; what a batch completed before it ran short counts."""
        counted, ret = await super().hv_map_gpa_failed(partition_id, flags, result)
        return (counted if shortage_of(ret) is None else result.done), ret

    async def hv_map_gpa_rollback(
        self, partition_id: int, gfn: int, done: int, flags: int, ret: int
    ) -> None:
        """Leave NO_ACCESS behind a map that ran short, and roll back other failures as before."""
        if shortage_of(ret) is not None:
            if flags & MAP_NO_ACCESS:
                return
            large = flags & MAP_LARGE_PAGE
            pages = done << HV_LARGE_PAGE_SHIFT if large else done
            undo = MAP_NO_ACCESS | MAP_NO_DEPOSIT | large
            failed, _, _ = await self.hv_map_gpa_batches(partition_id, gfn, pages, undo, None, 0)
            if not failed:
                return
        await super().hv_map_gpa_rollback(partition_id, gfn, done, flags, ret)
