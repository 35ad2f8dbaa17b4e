"""A fault that cannot be served is no reason for a warning; no upstream change (C22)."""

from __future__ import annotations

from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.sim import note


class QuietFaultFailure(V6):
    """The VMM decides what its guest finds behind an address; it gets the intercept."""

    def gfn_fault_warning(self) -> None:
        """Log the failure, nothing more."""
        note("region.fault_failed")


PATCH = Patch(
    name="quiet-fault-failure",
    summary="Leave a fault that fails to the VMM without a warning",
    bugs=("C22",),
    variants=(Variant(QuietFaultFailure, on=("v6", "v7", "v9", "fix1")),),
)
