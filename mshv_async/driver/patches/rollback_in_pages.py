"""Roll a failed large map back in 4 KiB pages, as the unmap helper counts (posted: E01)."""

from __future__ import annotations

from mshv_async.driver.abi import HV_LARGE_PAGE_SHIFT
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.hyperv import MAP_LARGE_PAGE


class RollbackInPages(V6):
    """The unmap of the rollback is not refused any more."""

    def hv_rollback_pages(self, done: int, flags: int) -> int:
        """Return the 4 KiB pages that ``done`` elements are."""
        return done << HV_LARGE_PAGE_SHIFT if flags & MAP_LARGE_PAGE else done


PATCH = Patch(
    name="rollback-in-pages",
    summary="Pass the rollback of a large map its count in 4 KiB pages",
    bugs=("E01",),
    variants=(Variant(RollbackInPages, on=("v6", "v7", "v9", "fix1")),),
)
