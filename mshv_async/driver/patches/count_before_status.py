"""Count what a failing batch completed before looking at its status (posted, unmerged: E03)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.hyperv import status_to_errno

if TYPE_CHECKING:
    from mshv_async.hyperv import HvResult


class CountBeforeStatus(V6):
    """The rollback covers every element that the hypervisor did."""

    async def hv_map_gpa_failed(
        self, partition_id: int, flags: int, result: HvResult
    ) -> tuple[int, int]:
        """As before, with the completed elements counted in any case."""
        if not self.hv_result_needs_memory(result.status):
            return result.done, status_to_errno(result.status)
        return result.done, await self.hv_deposit_for_map(partition_id, flags, result.status)


PATCH = Patch(
    name="count-before-status",
    summary="Roll back also what the failing map batch had completed",
    bugs=("E03",),
    variants=(Variant(CountBeforeStatus, on=("v6", "v7", "v9", "fix1")),),
)
