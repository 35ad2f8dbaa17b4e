"""Unmap the device memory of a region that goes (part of a posted series, unmerged: D15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.profiles.v7 import V7, RegionType
from mshv_async.driver.remap import partition_of
from mshv_async.sim import note

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion


class UnmapMmio(V6):
    """Device memory records no pages, so it is unmapped by range."""

    async def region_unmap(self, region: MshvMemRegion) -> None:
        """As before; of device memory the whole range."""
        if not self.is_mmio(region):
            return await super().region_unmap(region)
        pt_id = partition_of(region).pt_id
        ret = await self.hv_call_unmap_gpa_pages(pt_id, region.start_gfn, region.nr_pages, 0)
        if ret:
            note("region.unmap_failed", region=region.name, ret=ret)
        return None

    def is_mmio(self, region: MshvMemRegion) -> bool:
        """Say whether a region is a device's."""
        return not region.is_ram


class UnmapMmioV7(UnmapMmio, V7):
    """The same with types."""

    region_unmap = UnmapMmio.region_unmap

    def is_mmio(self, region: MshvMemRegion) -> bool:
        """Say whether a region is a device's."""
        return region.mreg_type == RegionType.MMIO


PATCH = Patch(
    name="unmap-mmio",
    summary="Unmap device memory from the guest when its region is destroyed",
    bugs=("D15",),
    variants=(
        Variant(UnmapMmio, on=("v6",)),
        Variant(UnmapMmioV7, on=("v7", "v9", "fix1")),
    ),
    extends=("region_unmap",),
)
