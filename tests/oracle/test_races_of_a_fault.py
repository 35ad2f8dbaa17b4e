"""Every row of the race catalogue (spec.md 3.5) is reached, and the oracle keeps silent on it."""

from __future__ import annotations

import pytest
from oracle_playing import REGION, found, search, thread, vps
from sound_drivers import Sound

from mshv_async.driver import (
    EBUSY,
    cond_resched,
    current,
    hmm_range_fault,
    mmap_read_lock,
    mmap_read_unlock,
    mmu_interval_read_begin,
    mmu_interval_read_retry,
    region_of,
)

INVALIDATED = (
    REGION
    + vps("write 0x200", "write 0x201", count=2)
    + thread("host", "repeat 2 madvise dontneed 0x200 2")
)
REAPED = REGION + vps("write 0x200", count=2) + thread("oom-reaper", "reap")
NEIGHBOUR = (
    """
[[region]]
gfn = 0x200
size = "4KiB"

[[region]]
gfn = 0x400
size = "4KiB"
"""
    + vps("write 0x400")
    + thread("host", "store 0x200", "repeat 3 madvise dontneed 0x200 1")
)


def recording(rows: set[str]) -> type:
    """Return a correct driver that says which rows its executions went through."""

    class Recording(Sound):
        async def region_hmm_fault_and_lock(self, region, range):
            mni = range.notifier
            range.notifier_seq = await mmu_interval_read_begin(mni)
            if any(t is not current() for t in mni.subscriptions.owners):
                rows.add("begun in a bracket")
            if mni.invalidate_seq != range.notifier_seq:
                rows.add("stale at once")
            await mmap_read_lock(mni.mm)
            ret = await hmm_range_fault(range)
            await mmap_read_unlock(mni.mm)
            if ret:
                rows.add(f"walk {ret} {region.name}")
                return ret
            await region.mutex.lock()
            if await mmu_interval_read_retry(mni, range.notifier_seq):
                rows.add(f"retry {region.name}")
                await region.mutex.unlock()
                await cond_resched()
                return -EBUSY
            return 0

        async def region_interval_invalidate(self, mni, range, cur_seq):
            owner = region_of(mni).mutex.owner
            if owner is not None and owner.name.startswith("vp"):
                rows.add("callback queued" if range.blockable else "refusal")
            return await super().region_interval_invalidate(mni, range, cur_seq)

    return Recording


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        (INVALIDATED, {f"walk {-EBUSY} region@0x200", "retry region@0x200", "callback queued"}),
        (REAPED, {"refusal"}),
        (NEIGHBOUR, {"begun in a bracket"}),
    ],
    ids=["invalidated", "reaped", "neighbour"],
)
def test_the_rows_are_reached_and_silent(scenario, expected):
    rows: set[str] = set()
    for strategy in ("portfolio", "random"):
        assert not search(scenario, recording(rows), 150, strategy=strategy).findings
    assert expected <= rows, rows


def test_the_invalidation_of_a_neighbour_disturbs_nobody():
    rows: set[str] = set()
    assert not search(NEIGHBOUR, recording(rows), 150, strategy="random").findings
    assert not {r for r in rows if r.endswith("region@0x400")}


def test_a_reader_that_begins_inside_a_bracket_sleeps():
    """Without the sleep, pages of a range between its start and its change would be mapped."""

    class DoesNotSleep(Sound):
        async def region_hmm_fault_and_lock(self, region, range):
            range.notifier_seq = range.notifier.invalidate_seq
            await mmap_read_lock(region.mni.mm)
            ret = await hmm_range_fault(range)
            await mmap_read_unlock(region.mni.mm)
            if not ret:
                await region.mutex.lock()
            return ret

    found(INVALIDATED, DoesNotSleep, "invariant:stale-mapping")


def test_one_access_and_one_discard_are_clean_in_every_schedule_without_preemption():
    scenario = REGION + vps("read 0x200") + thread("host", "madvise dontneed 0x200 1")
    result = search(scenario, Sound, 5000, strategy="dfs", preemptions=0)
    assert result.exhausted
    assert not result.findings
