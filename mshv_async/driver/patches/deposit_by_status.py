"""Deposit for a map where, and what, the status says (posted February 2026, unmerged: E05)."""

from __future__ import annotations

from mshv_async.driver.abi import HV_MAP_GPA_DEPOSIT_PAGES
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.fix1 import Fix1, deposit_by_status
from mshv_async.driver.profiles.v6 import V6
from mshv_async.hyperv import HvStatus


class DepositByStatus(V6):
    """The root's pool is filled when that is short; 8 pages where they have to be contiguous."""

    def hv_map_deposit(self, partition_id: int, status: HvStatus) -> tuple[int, int]:
        """Return the partition and the pages of a map's deposit."""
        if status is HvStatus.INSUFFICIENT_MEMORY:
            return partition_id, HV_MAP_GPA_DEPOSIT_PAGES
        return deposit_by_status(self, partition_id, status)


class DepositByAnyStatus(DepositByStatus):
    """The same on versions for which the other three statuses are plain errors."""

    hv_result_needs_memory = Fix1.hv_result_needs_memory
    hv_map_deposit = DepositByStatus.hv_map_deposit


PATCH = Patch(
    name="deposit-by-status",
    summary="Deposit for a map in the pool that the status names",
    bugs=("E05", "E10"),
    variants=(
        Variant(DepositByStatus, on=("fix1",)),
        Variant(DepositByAnyStatus, on=("v6", "v7", "v9")),
    ),
)
