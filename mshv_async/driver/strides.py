"""Chunks whose stride goes by folio, gfn and count together: what 259add0d982c merged.

Part of ``fix1``, and the patch ``aligned-stride`` on the versions before.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from mshv_async.driver.abi import PMD_ORDER
from mshv_async.driver.cint import pmd_aligned
from mshv_async.driver.profiles.v7 import V7

if TYPE_CHECKING:
    from mshv_async.driver.profiles.v7 import ChunkHandler
    from mshv_async.driver.structures import MshvMemRegion


class AlignedStride(V7):
    """A large chunk begins with the head of a folio, at a 2 MiB gfn, with 2 MiB times n to go."""

    def chunk_stride(self, region: MshvMemRegion, page_offset: int, page_count: int) -> int:
        """Return the stride at a recorded page with ``page_count`` to go; -EINVAL: no such order.

        512 for the head of a 2 MiB folio where gfn and count are aligned, 1 for everything else
        but an aligned head of another order (B09).
        """
        page = region.pages.get(page_offset)
        assert page is not None, "the caller skips empty entries"
        folio = self.host_mem.folio(page.pfn)
        if not folio.order or folio.head != page.pfn:
            return 1
        if not pmd_aligned(region.start_gfn + page_offset) or not pmd_aligned(page_count):
            return 1
        return 1 << PMD_ORDER if folio.order == PMD_ORDER else -EINVAL

    async def region_process_chunk(
        self,
        region: MshvMemRegion,
        flags: int,
        page_offset: int,
        page_count: int,
        handler: ChunkHandler,
    ) -> int:
        """Call ``handler`` for the pages from ``page_offset`` on that have one stride.

        Returns their number or an errno. Large is what has a stride of more than a page.
        """
        if not self.host_mem.large:
            count = self.small_pages(region, page_offset, page_count)
            return await handler(region, flags, page_offset, count, False) or count
        stride = self.chunk_stride(region, page_offset, page_count)
        if stride < 0:
            return stride
        count = stride
        while count < page_count:
            at = page_offset + count
            if region.pages.get(at) is None:
                break
            if stride == 1 and not pmd_aligned(region.start_gfn + at):
                count += self.up_to_boundary(region, at, page_count - count)
            elif self.chunk_stride(region, at, page_count - count) == stride:
                count += stride
            else:
                break
        return await handler(region, flags, page_offset, count, stride > 1) or count

    def up_to_boundary(self, region: MshvMemRegion, page_offset: int, page_count: int) -> int:
        """Return how many recorded pages follow up to a 2 MiB gfn; the stride of each is 1."""
        end = page_offset + min(page_count, -(region.start_gfn + page_offset) % (1 << PMD_ORDER))
        at = page_offset
        for lo, hi, _ in region.pages.runs(page_offset, end):
            if lo != at:
                break
            at = hi
        return at - page_offset
