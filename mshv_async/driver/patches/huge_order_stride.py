"""Take folios of 1 GiB, and aligned parts of folios, in strides of 2 MiB (merged in 7.1-rc8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.abi import PMD_ORDER
from mshv_async.driver.cint import pmd_aligned
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.strides import AlignedStride

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion


class HugeOrderStride(AlignedStride):
    """Any folio of 2 MiB or more goes by its aligned 2 MiB; smaller ones go page by page.

    The hypervisor itself joins 2 MiB entries to 1 GiB.
    """

    def chunk_stride(self, region: MshvMemRegion, page_offset: int, page_count: int) -> int:
        """Return 512 where folio order, pfn, gfn and count allow 2 MiB, else 1."""
        page = region.pages.get(page_offset)
        assert page is not None, "the caller skips empty entries"
        large = (
            self.host_mem.folio(page.pfn).order >= PMD_ORDER
            and pmd_aligned(page.pfn)
            and pmd_aligned(region.start_gfn + page_offset)
            and pmd_aligned(page_count)
        )
        return 1 << PMD_ORDER if large else 1


PATCH = Patch(
    name="huge-order-stride",
    summary="Map folios of 1 GiB in 2 MiB chunks instead of refusing them",
    bugs=("B09",),
    variants=(
        Variant(HugeOrderStride, on=("fix1",)),
        Variant(HugeOrderStride, on=("v7", "v9"), after=("aligned-stride",)),
    ),
)
