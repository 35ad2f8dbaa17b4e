"""Let a fatal signal end the fault path's retries (upstream: part of the July 2026 rework)."""

from __future__ import annotations

from errno import EBUSY, EINTR
from typing import TYPE_CHECKING

from mshv_async.driver.fault import mm_of
from mshv_async.driver.patches.base import Patch, Variant
from mshv_async.driver.profiles.v6 import V6
from mshv_async.host import (
    hmm_range_fault,
    mmap_read_lock_killable,
    mmap_read_unlock,
    mmu_interval_read_begin,
    mmu_interval_read_retry,
)
from mshv_async.sim import cond_resched, current

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvMemRegion
    from mshv_async.host import HmmRange


class KillableRetry(V6):
    """Every round looks for a fatal signal, and both locks are taken killably.

    A round that a signal ended leaves the intercept to the VMM, whose thread dies on the way there.
    (To call it handled and run the VP once more would not do: under the hypervisor's scheduler the
    VP stops again at once, and its message is taken before the signal.) The wait for an open
    invalidation stays uninterruptible: the notifier core has no other.
    """

    async def region_hmm_fault_and_lock(self, region: MshvMemRegion, range: HmmRange) -> int:
        """As v6; -EINTR when a fatal signal is pending or ends a wait."""
        if current().fatal_pending:
            return -EINTR
        range.notifier_seq = await mmu_interval_read_begin(range.notifier)
        mm = mm_of(region)
        ret = await mmap_read_lock_killable(mm)
        if ret:
            return ret
        ret = await hmm_range_fault(range)
        await mmap_read_unlock(mm)
        if ret:
            return ret

        ret = await region.mutex.lock_killable()
        if ret:
            return ret
        if await mmu_interval_read_retry(range.notifier, range.notifier_seq):
            await region.mutex.unlock()
            await cond_resched()
            return -EBUSY
        return 0

    def gfn_fault_served(self, ret: int) -> bool:
        """As before, but a signal is no failure to warn about."""
        return ret != -EINTR and super().gfn_fault_served(ret)


PATCH = Patch(
    name="killable-retry",
    summary="End the -EBUSY loop of a fault when a fatal signal is pending",
    bugs=("C02", "C24"),
    variants=(Variant(KillableRetry, on=("v6", "v7", "v9", "fix1")),),
    extends=("gfn_fault_served",),
)
