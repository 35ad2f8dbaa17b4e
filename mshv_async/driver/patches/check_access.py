"""Compare the access with the region's rights before serving it (merged in 7.0-rc8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.patches.region_refcount import RegionRefcount
from mshv_async.driver.profiles.fix1 import Fix1
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.profiles.v7 import V7
from mshv_async.driver.region import access_permitted
from mshv_async.sim import warn

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvVp


class CheckAccess(V6):
    """A write to a read-only region, or execution of one that is not executable, is the VMM's."""

    async def handle_gpa_intercept(self, vp: MshvVp) -> bool:
        """As v6, after a look at whether the region permits the access at all."""
        message = vp.vp_intercept_msg_page.intercept_message
        region = await self.partition_region_by_gfn(vp.vp_partition, message.gfn)
        if region is None:
            return False
        if not access_permitted(region, message.access):
            return False
        if not region.is_ram:
            warn("handle_gpa_intercept: not RAM")
            return False
        if region.range_pinned:
            warn("handle_gpa_intercept: pinned region")
            return False
        return await self.region_handle_gfn_fault(region, message.gfn)


class CheckAccessCounted(RegionRefcount):
    """The same on v6 with counted regions."""

    async def handle_gpa_intercept(self, vp: MshvVp) -> bool:
        """As ``region-refcount``, after a look at whether the region permits the access."""
        message = vp.vp_intercept_msg_page.intercept_message
        region = await self.partition_region_by_gfn_get(vp.vp_partition, message.gfn)
        if region is None:
            return False
        handled = False
        if not access_permitted(region, message.access):
            pass
        elif not region.is_ram:
            warn("handle_gpa_intercept: not RAM")
        elif region.range_pinned:
            warn("handle_gpa_intercept: pinned region")
        else:
            handled = await self.region_handle_gfn_fault(region, message.gfn)
        await self.region_put(region)
        return handled


class CheckAccessV7(V7):
    """The merged change."""

    handle_gpa_intercept = Fix1.handle_gpa_intercept


PATCH = Patch(
    name="check-access",
    summary="Leave accesses that the region does not permit to the VMM",
    bugs=("C01",),
    variants=(
        Variant(CheckAccess, on=("v6",)),
        Variant(CheckAccessCounted, on=("v6",), after=("region-refcount",)),
        Variant(CheckAccessV7, on=("v7", "v9")),
    ),
)
