"""Map 2 MiB only if all 512 recorded pages are the folio's; no upstream change.

A THP of which a part was discarded is mapped page by page, but stays one folio of order 9 until
it is split. Faulted in again, the discarded part has other pages. The stride looks at the first
page alone, finds the head of a large folio, and maps the guest to the folio's old pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.abi import PMD_ORDER
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.strides import AlignedStride

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion


class ContiguousStride(AlignedStride):
    """HMM's map order would say it too; the recorded pages say it for pinned regions as well."""

    def chunk_stride(self, region: MshvMemRegion, page_offset: int, page_count: int) -> int:
        """As before, but 1 where the 512 pages do not follow one another."""
        stride = super().chunk_stride(region, page_offset, page_count)
        if stride > 1:
            runs = region.pages.runs(page_offset, page_offset + (1 << PMD_ORDER))
            if len(runs) > 1 or runs[0][1] - runs[0][0] < 1 << PMD_ORDER:
                return 1
        return stride


PATCH = Patch(
    name="contiguous-stride",
    summary="Take a folio for large only if all of its 2 MiB are mapped from it",
    bugs=("X03",),
    variants=(
        Variant(ContiguousStride, on=("fix1",)),
        Variant(ContiguousStride, on=("v7", "v9"), after=("aligned-stride",)),
        Variant(ContiguousStride, on=("v7", "v9"), after=("aligned-stride", "huge-order-stride")),
    ),
    extends=("chunk_stride",),
)
