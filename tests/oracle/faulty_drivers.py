"""Drivers with one small fault each, on top of one that has none."""

from __future__ import annotations

from sound_drivers import Sound

from mshv_async.driver import (
    EBUSY,
    EFAULT,
    HV_MAP_GPA_NO_ACCESS,
    HV_MAP_GPA_WRITABLE,
    UNINIT,
    Page,
    RegionType,
    clamp_to_region,
    hmm_range_fault,
    mmap_read_lock,
    mmap_read_unlock,
    mmu_interval_notifier_remove,
    mmu_interval_read_begin,
    mmu_interval_set_seq,
    mmu_notifier_range_blockable,
    region_of,
)
from mshv_async.sim import cond_resched, sleep_ns, warn

# -- the callback ----------------------------------------------------------------------------


class Callback(Sound):
    """The callback in three parts, of which each fault changes one."""

    async def region_interval_invalidate(self, mni, range, cur_seq):
        region = region_of(mni)
        if mmu_notifier_range_blockable(range):
            await region.mutex.lock()
        elif not await region.mutex.trylock():
            return False
        await self.announce(mni, cur_seq)
        ret = await self.clear(region, range, *clamp_to_region(region, range))
        await self.leave(region)
        return ret == 0

    async def announce(self, mni, cur_seq):
        await mmu_interval_set_seq(mni, cur_seq)

    async def clear(self, region, range, page_offset, page_count):
        ret = await self.region_remap_pages(region, HV_MAP_GPA_NO_ACCESS, page_offset, page_count)
        if not ret:
            self.region_invalidate_pages(region, page_offset, page_count)
        return ret

    async def leave(self, region):
        await region.mutex.unlock()


class SetSeqSkipped(Callback):
    async def announce(self, mni, cur_seq):
        pass


class HypercallSkipped(Callback):
    async def clear(self, region, range, page_offset, page_count):
        self.region_invalidate_pages(region, page_offset, page_count)
        return 0


class FirstPageOnly(Callback):
    async def clear(self, region, range, page_offset, page_count):
        return await super().clear(region, range, page_offset, 1)


class PagesKept(Callback):
    async def clear(self, region, range, page_offset, page_count):
        return await self.region_remap_pages(region, HV_MAP_GPA_NO_ACCESS, page_offset, page_count)


class UnmapsInstead(Callback):
    async def clear(self, region, range, page_offset, page_count):
        gfn = region.start_gfn + page_offset
        self.region_invalidate_pages(region, page_offset, page_count)
        return await self.hv_call_unmap_gpa_pages(region.partition.pt_id, gfn, page_count, 0)


class NeverUnlocks(Callback):
    async def leave(self, region):
        pass


class UnlocksTwice(Callback):
    async def leave(self, region):
        await region.mutex.unlock()
        await region.mutex.unlock()


class UsesUninitialised(Callback):
    async def clear(self, region, range, page_offset, page_count):
        return await super().clear(region, range, UNINIT, page_count)


class WarnsAlways(Callback):
    async def leave(self, region):
        warn("leave: a callback returned")
        await region.mutex.unlock()


class SleepsLong(Callback):
    async def leave(self, region):
        await sleep_ns(200_000_000_000)
        await region.mutex.unlock()


class LocksAlways(Callback):
    async def region_interval_invalidate(self, mni, range, cur_seq):
        return await super().region_interval_invalidate(
            mni, range._replace(blockable=True), cur_seq
        )


class SetSeqUnlocked(Callback):
    async def region_interval_invalidate(self, mni, range, cur_seq):
        await mmu_interval_set_seq(mni, cur_seq)
        return await super().region_interval_invalidate(mni, range, cur_seq)


# -- the fault -------------------------------------------------------------------------------


class RetryIgnored(Sound):
    async def region_hmm_fault_and_lock(self, region, range):
        range.notifier_seq = await mmu_interval_read_begin(range.notifier)
        await mmap_read_lock(region.mni.mm)
        ret = await hmm_range_fault(range)
        await mmap_read_unlock(region.mni.mm)
        if not ret:
            await region.mutex.lock()
        return ret


class UsedAfterUnlock(Sound):
    async def region_hmm_fault_and_lock(self, region, range):
        ret = await super().region_hmm_fault_and_lock(region, range)
        if not ret:
            await region.mutex.unlock()
            await cond_resched()
            await region.mutex.lock()
        return ret


class FirstAnswerKept(Sound):
    """What the first attempt found is recorded and mapped, whatever a later one found."""

    async def region_range_fault(self, region, page_offset, page_count):
        first = await self.region_fault_alloc(region, page_offset, page_count)
        ret = await self.region_hmm_fault_and_lock(region, first)
        request = first
        while ret == -EBUSY:
            request = request.again()
            ret = await self.region_hmm_fault_and_lock(region, request)
        if not ret:
            self.region_record_pages(region, page_offset, first.hmm_pfns)
            flags = region.hv_map_flags
            ret = await self.region_remap_pages(region, flags, page_offset, page_count)
            await region.mutex.unlock()
        await self.region_fault_free(page_count)
        return ret


class NeverRetries(Sound):
    async def region_hmm_fault_and_lock(self, region, range):
        ret = await super().region_hmm_fault_and_lock(region, range)
        return -EFAULT if ret == -EBUSY else ret


class PagesSwapped(Sound):
    def region_record_pages(self, region, page_offset, hmm_pfns):
        super().region_record_pages(region, page_offset, hmm_pfns)
        first, second = region.pages.get(0), region.pages.get(1)
        if first is not None and second is not None:
            region.pages.set(0, 1, Page(second.pfn))
            region.pages.set(1, 2, Page(first.pfn))


class MoreRights(Sound):
    async def region_chunk_remap(self, region, flags, page_offset, page_count, *huge):
        if not flags & HV_MAP_GPA_NO_ACCESS:
            flags |= HV_MAP_GPA_WRITABLE
        return await super().region_chunk_remap(region, flags, page_offset, page_count, *huge)


class HandlesNothing(Sound):
    async def region_handle_gfn_fault(self, region, gfn):
        return True


class ReadBeginUnderMutex(Sound):
    async def region_hmm_fault_and_lock(self, region, range):
        await region.mutex.lock()
        await mmu_interval_read_begin(range.notifier)
        await region.mutex.unlock()
        return await super().region_hmm_fault_and_lock(region, range)


class WaitsForTheOldSequence(Sound):
    """Sleeps until the sequence is what it was: woken by each invalidation, and never content."""

    async def region_hmm_fault_and_lock(self, region, range):
        subscriptions = range.notifier.subscriptions
        old = await mmu_interval_read_begin(range.notifier)
        await subscriptions.wq.wait_event(lambda: subscriptions.invalidate_seq == old)
        return -EBUSY


# -- regions ---------------------------------------------------------------------------------


class FreedEarly(Sound):
    async def partition_destroy_region(self, region):
        await self.partition_unlink_region(region.partition, region)
        await self.region_release(region)


class UnmapForgotten(Sound):
    async def region_unmap(self, region):
        pass


class NotifierTornOut(Sound):
    """Takes the subscription out of the tree without asking whether it is frozen."""

    async def region_movable_fini(self, region):
        await cond_resched()
        region.mni.subscriptions.unlink(region.mni)


class NotifierGoesFirst(Sound):
    async def region_release(self, region):
        if region.mreg_type == RegionType.MOVABLE:
            await mmu_interval_notifier_remove(region.mni)
        await self.region_unmap(region)
        await self.region_free(region)


class NotifierGoesUnderMutex(Sound):
    async def region_movable_fini(self, region):
        await region.mutex.lock()
        await mmu_interval_notifier_remove(region.mni)
        await region.mutex.unlock()


class OverlapUnseen(Sound):
    async def partition_region_overlaps(self, partition, mem):
        return False


class FailureIsSuccess(Sound):
    async def map_new_region(self, *args):
        await super().map_new_region(*args)
        return 0


class FailureLeavesEntries(Sound):
    """A failed map takes the region away, but not what it mapped before it failed."""

    async def hv_do_map_gpa_hcall(self, *args):
        ret, *_ = await self.hv_map_gpa_batches(*args)
        return ret
