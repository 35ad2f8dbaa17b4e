"""Put a new VP into the partition's array before its descriptor exists (posted, unmerged: G01)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.sim import step

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvPartition, MshvVp


class PublishBeforeFd(V6):
    """Whoever can run a VP can rely on its kicks."""

    async def vp_publish(self, partition: MshvPartition, vp: MshvVp) -> int:
        """Give the VP its place in the array and then its descriptor; that or -errno."""
        await step("vp.publish", partition.pt_vp_array, write=True)
        partition.pt_vp_array[vp.vp_index] = vp
        fd = await self.anon_inode_getfd(partition, vp)
        if fd < 0:
            await step("vp.unpublish", partition.pt_vp_array, write=True)
            partition.pt_vp_array.pop(vp.vp_index)
        return fd


PATCH = Patch(
    name="publish-before-fd",
    summary="Publish a new VP to the interrupt handler before user space can run it",
    bugs=("G01",),
    variants=(Variant(PublishBeforeFd, on=("v6", "v7", "v9", "fix1")),),
)
