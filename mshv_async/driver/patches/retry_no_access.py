"""Try NO_ACCESS again before giving an invalidation up; no upstream change exists (A02)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.hyperv import MAP_NO_ACCESS

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion

ATTEMPTS: Final = 16
"""A failure that lasts longer is reported to the caller as before."""


class RetryNoAccess(V6):
    """The host cannot be refused, so a failed NO_ACCESS has to succeed after all.

    The whole span is mapped again, which also covers what the helper's rollback unmapped.
    Between the attempts nothing sleeps: the range may be a non-blockable one.
    """

    async def region_remap_pages(
        self, region: MshvMemRegion, map_flags: int, page_offset: int, page_count: int
    ) -> int:
        """Map the span; a failing NO_ACCESS up to 16 times."""
        for _ in range(ATTEMPTS - 1):
            ret = await super().region_remap_pages(region, map_flags, page_offset, page_count)
            if not ret or not map_flags & MAP_NO_ACCESS:
                return ret
        return await super().region_remap_pages(region, map_flags, page_offset, page_count)


PATCH = Patch(
    name="retry-no-access",
    summary="Repeat a failing NO_ACCESS map, since the host takes the pages regardless",
    bugs=("A02",),
    variants=(Variant(RetryNoAccess, on=("v6", "v7", "v9", "fix1")),),
    extends=("region_remap_pages",),
)
