"""Helpers that issue hypercalls in batches: map, unmap, deposit, withdraw (spec.md 5.6).

Interrupts are off from filling the per-CPU input page to the answer, so a call is one stretch in
which the thread spins; pages are allocated between calls, where sleeping is allowed.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mshv_async.driver.abi import (
    HV_DEPOSIT_MAX,
    HV_LARGE_PAGE_SHIFT,
    HV_MAP_GPA_BATCH_SIZE,
    HV_MAP_GPA_DEPOSIT_PAGES,
    HV_UNMAP_GPA_BATCH_SIZE,
    HV_WITHDRAW_BATCH_SIZE,
)
from mshv_async.driver.base import DriverBase
from mshv_async.driver.cint import pmd_aligned
from mshv_async.hyperv import (
    MAP_LARGE_PAGE,
    MAP_NO_ACCESS,
    MAP_NOT_CACHED,
    MAP_READABLE,
    MAP_WRITABLE,
    UNMAP_LARGE_PAGE,
    HvCall,
    HvResult,
    HvStatus,
    PageRun,
    status_to_errno,
)
from mshv_async.sim import irq_restore, irq_save

if TYPE_CHECKING:
    from mshv_async.driver.structures import Page
    from mshv_async.sim import RangeMap


class PageWindow:
    """A pointer into a region's page array: element ``offset`` of ``pages``; immutable."""

    __slots__ = ("offset", "pages")

    def __init__(self, pages: RangeMap[Page], offset: int) -> None:
        self.pages = pages
        self.offset = offset

    def pfn_list(self, first: int, count: int, large_shift: int) -> tuple[PageRun, ...]:
        """Return the source list of ``count`` reps from rep ``first``, as runs."""
        if large_shift:
            return tuple(PageRun(1, self._pfn((first + i) << large_shift)) for i in range(count))
        lo = self.offset + first
        return tuple(PageRun(hi - at, page.pfn) for at, hi, page in self.pages.runs(lo, lo + count))

    def _pfn(self, index: int) -> int:
        page = self.pages.get(self.offset + index)
        return 0 if page is None else page.pfn


class HypercallHelpers(DriverBase):
    """Batched hypercalls on behalf of a partition."""

    async def hv_do_rep_hypercall(
        self,
        code: HvCall,
        partition_id: int,
        reps: int,
        *,
        gfn: int = 0,
        flags: int = 0,
        pfns: tuple[PageRun, ...] = (),
    ) -> HvResult:
        """Issue a rep call, again from where it stopped as long as it says SUCCESS."""
        start = 0
        while True:
            result = await self.hv.call(
                code, partition_id, reps=reps, start=start, gfn=gfn, flags=flags, pfns=pfns
            )
            start = result.done
            if result.status is not HvStatus.SUCCESS or start >= reps:
                return result

    async def hv_call_map_gpa_pages(
        self, partition_id: int, gfn: int, page_count: int, flags: int, pages: PageWindow | None
    ) -> int:
        """Map ``page_count`` guest pages from ``gfn`` to the pages of the array.

        NO_ACCESS needs none.
        """
        return await self.hv_do_map_gpa_hcall(partition_id, gfn, page_count, flags, pages, 0)

    async def hv_call_map_mmio_pages(
        self, partition_id: int, gfn: int, mmio_spa: int, numpages: int
    ) -> int:
        """Map device memory from host page ``mmio_spa``, uncached; -EINVAL if RAM is among it."""
        if mmio_spa < self.host_mem.pages:
            return -EINVAL
        flags = MAP_READABLE | MAP_WRITABLE | MAP_NOT_CACHED
        return await self.hv_do_map_gpa_hcall(partition_id, gfn, numpages, flags, None, mmio_spa)

    async def hv_do_map_gpa_hcall(
        self,
        partition_id: int,
        gfn: int,
        page_struct_count: int,
        flags: int,
        pages: PageWindow | None,
        mmio_spa: int,
    ) -> int:
        """Map, and on failure unmap what the batches before the failing one did.

        Kept as it was: in large mode the rollback passes 2 MiB units where 4 KiB pages are
        expected, and is refused (bugs.md E01).
        """
        ret, done = await self.hv_map_gpa_batches(
            partition_id, gfn, page_struct_count, flags, pages, mmio_spa
        )
        if ret and done:
            unmap_flags = UNMAP_LARGE_PAGE if flags & MAP_LARGE_PAGE else 0
            await self.hv_call_unmap_gpa_pages(partition_id, gfn, done, unmap_flags)
        return ret

    async def hv_map_gpa_batches(
        self,
        partition_id: int,
        gfn: int,
        page_struct_count: int,
        flags: int,
        pages: PageWindow | None,
        mmio_spa: int,
    ) -> tuple[int, int]:
        """Run the batches; return 0 or an errno, and the reps counted as done.

        A batch that fails is not counted at all, whatever it completed (bugs.md E03).
        """
        page_count = page_struct_count
        large_shift = 0
        ret = 0
        done = 0
        if page_count == 0 or (pages is not None and mmio_spa):
            return -EINVAL, 0
        if flags & MAP_LARGE_PAGE:
            if not pmd_aligned(page_count):
                return -EINVAL, 0
            large_shift = HV_LARGE_PAGE_SHIFT
            page_count >>= large_shift

        while done < page_count:
            rep_count = min(page_count - done, HV_MAP_GPA_BATCH_SIZE)
            irq_save()
            if flags & MAP_NO_ACCESS:
                source: tuple[PageRun, ...] = ()
            elif pages is not None:
                source = pages.pfn_list(done, rep_count, large_shift)
            else:
                source = (PageRun(rep_count, mmio_spa + done),)
            result = await self.hv_do_rep_hypercall(
                HvCall.MAP_GPA,
                partition_id,
                rep_count,
                gfn=gfn + (done << large_shift),
                flags=flags,
                pfns=source,
            )
            irq_restore()

            if result.status is HvStatus.INSUFFICIENT_MEMORY:
                ret = await self.hv_call_deposit_pages(partition_id, HV_MAP_GPA_DEPOSIT_PAGES)
                if ret:
                    break
            elif result.status is not HvStatus.SUCCESS:
                ret = status_to_errno(result.status)
                break
            done += result.done
        return ret, done

    async def hv_call_unmap_gpa_pages(
        self, partition_id: int, gfn: int, page_count_4k: int, flags: int
    ) -> int:
        """Make ``page_count_4k`` guest pages absent; stops at the first failure."""
        page_count = page_count_4k
        large_shift = 0
        done = 0
        if page_count == 0:
            return -EINVAL
        if flags & UNMAP_LARGE_PAGE:
            if not pmd_aligned(page_count):
                return -EINVAL
            large_shift = HV_LARGE_PAGE_SHIFT
            page_count >>= large_shift

        while done < page_count:
            rep_count = min(page_count - done, HV_UNMAP_GPA_BATCH_SIZE)
            irq_save()
            result = await self.hv_do_rep_hypercall(
                HvCall.UNMAP_GPA,
                partition_id,
                rep_count,
                gfn=gfn + (done << large_shift),
                flags=flags,
            )
            irq_restore()
            if result.status is not HvStatus.SUCCESS:
                return status_to_errno(result.status)
            done += result.done
        return 0

    async def hv_call_deposit_pages(self, partition_id: int, num_pages: int) -> int:
        """Allocate ``num_pages`` pages (this may sleep and reclaim) and give them to the pool.

        On a refused hypercall all pages are freed, as if none had been accepted (bugs.md E06).
        """
        if num_pages > HV_DEPOSIT_MAX:
            return -E2BIG
        if num_pages == 0:
            return 0
        runs = await self.host_mem.alloc_pages(num_pages, "deposit")
        if runs is None:
            return -ENOMEM
        irq_save()
        result = await self.hv_do_rep_hypercall(
            HvCall.DEPOSIT,
            partition_id,
            num_pages,
            pfns=tuple(PageRun(hi - lo, lo) for lo, hi in runs),
        )
        irq_restore()
        if result.status is not HvStatus.SUCCESS:
            for lo, hi in runs:
                self.host_mem.put_page(lo, hi - lo)
            return status_to_errno(result.status)
        return 0

    async def hv_call_withdraw_memory(self, partition_id: int) -> int:
        """Take all free pages back from the pool, 512 a call, until NO_RESOURCES."""
        while True:
            irq_save()
            result = await self.hv.call(HvCall.WITHDRAW, partition_id, reps=HV_WITHDRAW_BATCH_SIZE)
            irq_restore()
            for run in result.pages:
                self.host_mem.put_page(run.pfn, run.length)
            if result.status is not HvStatus.SUCCESS:
                no_more = result.status is HvStatus.NO_RESOURCES
                return 0 if no_more else status_to_errno(result.status)
