"""Large chunks only where page, gfn and count are aligned (merged in 6.19-rc7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v7 import V7
from mshv_async.driver.strides import AlignedStride as Merged
from mshv_async.hyperv import UNMAP_LARGE_PAGE

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion


class AlignedStride(V7):
    """What ``fix1`` has."""

    chunk_stride = Merged.chunk_stride
    up_to_boundary = Merged.up_to_boundary
    region_process_chunk = Merged.region_process_chunk


class AlignedStrideV7(AlignedStride):
    """On v7, which unmaps without the large flag."""

    chunk_stride = Merged.chunk_stride
    up_to_boundary = Merged.up_to_boundary
    region_process_chunk = Merged.region_process_chunk

    async def region_chunk_unmap(
        self, region: MshvMemRegion, flags: int, page_offset: int, page_count: int, huge: bool
    ) -> int:
        """Unmap one chunk, with the large flag."""
        if huge:
            flags |= UNMAP_LARGE_PAGE
        return await super().region_chunk_unmap(region, flags, page_offset, page_count, huge)


PATCH = Patch(
    name="aligned-stride",
    summary="Take a chunk for large only at an aligned head page, gfn and remaining count",
    bugs=("A11", "B05", "B06"),
    variants=(
        Variant(AlignedStrideV7, on=("v7",)),
        Variant(AlignedStride, on=("v9",)),
    ),
)
