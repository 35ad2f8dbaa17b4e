"""Destroy a partition's regions before FINALIZE, as a vendor's tree does; not upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.hyperv import HvCall
from mshv_async.sim import kfree

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvPartition


class RegionsBeforeFinalize(V6):
    """No notifier is left to call back for a partition that takes no mapping any more."""

    async def destroy_partition(self, partition: MshvPartition) -> None:
        """Tear the partition down, regions first."""
        await self.destroy_vps(partition)
        await self.destroy_regions(partition)
        await self.finalize_partition(partition)
        await self.unpublish_partition(partition)
        await self.hv_call_withdraw_memory(partition.pt_id)
        await self.hv_call(HvCall.DELETE, partition.pt_id)
        await kfree(partition)


PATCH = Patch(
    name="regions-before-finalize",
    summary="Destroy the regions of a partition before it is finalised",
    bugs=("A02",),
    variants=(Variant(RegionsBeforeFinalize, on=("v6", "v7", "v9", "fix1")),),
)
