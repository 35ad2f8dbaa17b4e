"""An allocation that may reclaim, under a lock that reclaim's callbacks want, is noted."""

from __future__ import annotations

import pytest
from oracle_playing import REGION, finding_of, silent, thread, vps
from sound_drivers import Sound

from mshv_async.driver import MshvPartition, current, kzalloc, mmu_interval_set_seq, region_of
from mshv_async.sim import Mutex, SpinLock

NOTED = "invariant:reclaim-under-lock"
DISCARD = REGION + vps("write 0x200", "read 0x201") + thread("host", "madvise dontneed 0x200 2")


class ScratchUnderMutex(Sound):
    """Allocates what it needs for the mapping only when it holds the mutex."""

    async def region_remap_pages(self, region, map_flags, page_offset, page_count):
        if region.mutex.owner is current() and not map_flags & self.no_access:
            await self.host_mem.might_alloc(1, "scratch", self.gfp)
        return await super().region_remap_pages(region, map_flags, page_offset, page_count)

    no_access = 0x10000
    gfp = "kernel"


class ScratchAtomic(ScratchUnderMutex):
    """The same without sleeping: it takes what is free or goes without."""

    gfp = "atomic"


class ScratchBefore(Sound):
    """The same before the mutex is taken."""

    async def region_range_fault(self, region, page_offset, page_count):
        await self.host_mem.might_alloc(1, "scratch")
        return await super().region_range_fault(region, page_offset, page_count)


class CountedPartition(MshvPartition):
    """A partition with a lock for its statistics."""

    __slots__ = ("stats_lock",)
    _embedded = (*MshvPartition._embedded, "stats_lock")

    def __init__(self, name, pt_id, mm):
        super().__init__(name, pt_id, mm)
        self.stats_lock = Mutex(f"{name}.stats_lock", "my_driver.stats_lock")


class OwnLock(Sound):
    """Callbacks and faults share a second lock, of a class that no other version has."""

    def new_partition(self, pt_id, mm):
        partition = kzalloc(CountedPartition, f"partition{pt_id}", pt_id, mm)
        partition.pt_mem_regions_lock = SpinLock(f"{partition.name}.lock", "mem_regions_lock")
        return partition

    async def region_interval_invalidate(self, mni, range, cur_seq):
        if range.blockable:
            lock = region_of(mni).partition.stats_lock
            await lock.lock()
            await lock.unlock()
        return await super().region_interval_invalidate(mni, range, cur_seq)

    async def region_handle_gfn_fault(self, region, gfn):
        lock = region.partition.stats_lock
        await lock.lock()
        await self.host_mem.might_alloc(1, "statistics")
        await lock.unlock()
        return await super().region_handle_gfn_fault(region, gfn)


def test_an_allocation_under_the_region_mutex_is_noted_with_its_place():
    finding = finding_of(DISCARD, ScratchUnderMutex, NOTED)
    assert finding.title == "invariant:reclaim-under-lock: region_remap_pages (region.mutex)"
    assert (
        finding.story[0] == "vp0 allocates for scratch and may reclaim, holding region@0x200.mutex"
    )
    assert len(finding.story) == 3


def test_a_lock_is_known_by_the_callback_that_takes_it():
    finding = finding_of(DISCARD, OwnLock, NOTED)
    assert (
        finding.title
        == "invariant:reclaim-under-lock: region_handle_gfn_fault (partition.stats_lock)"
    )


@pytest.mark.parametrize("driver", [Sound, ScratchAtomic, ScratchBefore])
def test_allocations_outside_the_lock_or_without_sleep_are_silent(driver):
    silent(DISCARD, driver)


def test_the_execution_goes_on_after_it_and_a_worse_finding_is_the_outcome():
    class AlsoForgets(ScratchUnderMutex):
        async def region_interval_invalidate(self, mni, range, cur_seq):
            region = region_of(mni)
            await region.mutex.lock()
            await mmu_interval_set_seq(mni, cur_seq)
            return True

    finding_of(DISCARD, AlsoForgets, "lost-unlock")
