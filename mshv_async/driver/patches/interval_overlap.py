"""Judge overlap of regions by intervals (merged in November 2025, lost in v7, back in v9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.abi import HV_HYP_PAGE_SHIFT
from mshv_async.driver.cint import u64_add
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.profiles.v7 import V7
from mshv_async.driver.profiles.v9 import V9
from mshv_async.driver.structures import next_region
from mshv_async.sim import step

if TYPE_CHECKING:
    from mshv_async.driver.abi import MshvUserMemRegion
    from mshv_async.driver.structures import MshvPartition


class IntervalOverlap(V6):
    """A range that encloses a region overlaps it; host addresses may repeat."""

    async def partition_region_overlaps(
        self, partition: MshvPartition, mem: MshvUserMemRegion
    ) -> bool:
        """Say whether the new range meets a region by gfn; the partition mutex is held."""
        end_gfn = u64_add(mem.guest_pfn, mem.size >> HV_HYP_PAGE_SHIFT)
        await step("region.lookup", partition.pt_mem_regions)
        region = partition.pt_mem_regions.first
        while region is not None:
            if (
                mem.guest_pfn < u64_add(region.start_gfn, region.nr_pages)
                and region.start_gfn < end_gfn
            ):
                return True
            region = next_region(region)
        return False


class IntervalOverlapV7(V7):
    """The same on v7, under the list lock."""

    partition_region_overlaps = V9.partition_region_overlaps


PATCH = Patch(
    name="interval-overlap",
    summary="Refuse a new region that encloses an existing one",
    bugs=("D08",),
    variants=(
        Variant(IntervalOverlap, on=("v6",)),
        Variant(IntervalOverlapV7, on=("v7",)),
    ),
)
