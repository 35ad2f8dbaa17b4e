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
    POINTER_BYTES,
)
from mshv_async.driver.base import DriverBase
from mshv_async.driver.cint import U32_MAX, pmd_aligned
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
from mshv_async.sim import current, irq_restore, irq_save, probe

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
            return self._large_list(first, count, large_shift)
        lo = self.offset + first
        return tuple(PageRun(hi - at, page.pfn) for at, hi, page in self.pages.runs(lo, lo + count))

    def _large_list(self, first: int, count: int, shift: int) -> tuple[PageRun, ...]:
        """Take the page at the start of each large one; the rest of it is not looked at."""
        found: list[PageRun] = []
        for index in range(first, first + count):
            page = self.pages.get(self.offset + (index << shift))
            pfn = 0 if page is None else page.pfn
            if found and found[-1].pfn + (found[-1].length << shift) == pfn:
                found[-1] = PageRun(found[-1].length + 1, found[-1].pfn)
            else:
                found.append(PageRun(1, pfn))
        return tuple(found)


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
        """Map consecutive host pages from ``mmio_spa``, uncached; -EINVAL if that is RAM."""
        if mmio_spa < self.host_mem.pages or self.host_mem.folio(mmio_spa).order:
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
        """Map, and on failure undo what is counted as done."""
        ret, done = await self.hv_map_gpa_batches(
            partition_id, gfn, page_struct_count, flags, pages, mmio_spa
        )
        if ret and done:
            await self.hv_map_gpa_rollback(partition_id, gfn, done, flags, ret)
        return ret

    async def hv_map_gpa_rollback(
        self, partition_id: int, gfn: int, done: int, flags: int, ret: int
    ) -> None:
        """Unmap the ``done`` elements of a map that failed with ``ret``."""
        del ret
        unmap_flags = UNMAP_LARGE_PAGE if flags & MAP_LARGE_PAGE else 0
        count = self.hv_rollback_pages(done, flags)
        await self.hv_call_unmap_gpa_pages(partition_id, gfn, count, unmap_flags)

    def hv_rollback_pages(self, done: int, flags: int) -> int:
        """Return the count that the rollback passes on for ``done`` elements.

        In large mode it are 2 MiB units where 4 KiB pages are expected, and the call is refused
        (bugs.md E01).
        """
        del flags
        return done

    async def hv_map_gpa_batches(
        self,
        partition_id: int,
        gfn: int,
        page_struct_count: int,
        flags: int,
        pages: PageWindow | None,
        mmio_spa: int,
    ) -> tuple[int, int]:
        """Run the batches; return 0 or an errno, and the elements counted as done."""
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
                flags=flags & U32_MAX,
                pfns=source,
            )
            irq_restore()

            if result.status is HvStatus.SUCCESS:
                done += result.done
                continue
            counted, ret = await self.hv_map_gpa_failed(partition_id, flags, result)
            done += counted
            if ret:
                break
        return ret, done

    async def hv_map_gpa_failed(
        self, partition_id: int, flags: int, result: HvResult
    ) -> tuple[int, int]:
        """Deposit if a batch stopped for want of memory; return elements to count, and an errno.

        A batch that fails for good is not counted at all, whatever it completed (bugs.md E03).
        """
        if not self.hv_result_needs_memory(result.status):
            return 0, status_to_errno(result.status)
        ret = await self.hv_deposit_for_map(partition_id, flags, result.status)
        return (0 if ret else result.done), ret

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

    # -- memory for the hypervisor ---------------------------------------------------------

    def hv_result_needs_memory(self, status: HvStatus) -> bool:
        """Say whether a deposit would help; the other three memory statuses are plain errors."""
        return status is HvStatus.INSUFFICIENT_MEMORY

    async def hv_deposit_for_map(self, partition_id: int, flags: int, status: HvStatus) -> int:
        """Deposit for a map that ran short; the thread may hold the region mutex (C23, A09)."""
        del flags
        return await self.hv_call_deposit_pages(*self.hv_map_deposit(partition_id, status))

    def hv_map_deposit(self, partition_id: int, status: HvStatus) -> tuple[int, int]:
        """Return the partition and the pages of a map's deposit: 256, whatever is short (E05)."""
        del status
        return partition_id, HV_MAP_GPA_DEPOSIT_PAGES

    async def hv_deposit_memory(self, partition_id: int, status: HvStatus) -> int:
        """Deposit for a call other than a map that ran short: one page."""
        del status
        return await self.hv_call_deposit_pages(partition_id, 1)

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
        probe("driver.alloc", current(), num_pages * POINTER_BYTES, "deposit")
        irq_save()
        result = await self.hv_do_rep_hypercall(
            HvCall.DEPOSIT,
            partition_id,
            num_pages,
            pfns=tuple(PageRun(hi - lo, lo) for lo, hi in runs),
        )
        irq_restore()
        probe("driver.free", current(), num_pages * POINTER_BYTES, "deposit")
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
