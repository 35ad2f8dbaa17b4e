"""Keep the address space alive while a fault works on it; no upstream change (C17)."""

from __future__ import annotations

from errno import EFAULT
from typing import TYPE_CHECKING

from mshv_async.driver.fault import mm_of
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.host import mmget_not_zero, mmput

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion


class MmgetInFault(V6):
    """HMM's documented pattern: a fault is a user of the address space, or fails (spec.md 3.4).

    The notifier only keeps the structure. A VP that another process runs may fault when exit has
    swept the address space, and would map pages there that nobody takes away any more.
    """

    async def region_range_fault(
        self, region: MshvMemRegion, page_offset: int, page_count: int
    ) -> int:
        """As before; -EFAULT if the address space has no user left.

        The last user runs exit, with its callbacks, on this thread: after the region mutex and
        mmap_lock were released, and under no lock but the VP's, which no callback takes. The
        caller's reference keeps the region until then.
        """
        mm = mm_of(region)
        if not await mmget_not_zero(mm):
            return -EFAULT
        ret = await super().region_range_fault(region, page_offset, page_count)
        await mmput(mm)
        return ret


PATCH = Patch(
    name="mmget-in-fault",
    summary="Be a user of the address space while a fault walks it, or fail with -EFAULT",
    bugs=("C17",),
    variants=(Variant(MmgetInFault, on=("v6", "v7", "v9", "fix1")),),
    extends=("region_range_fault",),
)
