"""The driver's own memory: a bound for each use, and nothing left when the use is over."""

from __future__ import annotations

import pytest
from oracle_playing import REGION, finding_of, silent, thread, vps
from sound_drivers import Sound

from mshv_async.driver import current
from mshv_async.sim import probe

RUN = REGION + vps("write 0x200", "read 0x201", "write 0x200")
DISCARD = RUN + thread("host", "madvise dontneed 0x200 2")
CLOSE = REGION + vps("write 0x200") + thread("vmm", "close partition", "close vp 0")
MAP = thread("vmm", "map 0x200 8KiB", "unmap 0x200", "map 0x300 4MiB")
INVARIANT = "invariant:bounded-memory"


class ForgetsItsArray(Sound):
    """Leaves the frame numbers of a fault behind when the host was quicker."""

    async def region_hmm_fault_and_lock(self, region, range):
        probe("driver.alloc", current(), 4096, "snapshot")
        ret = await super().region_hmm_fault_and_lock(region, range)
        if not ret:
            probe("driver.free", current(), 4096, "snapshot")
        return ret


class TakesTooMuch(Sound):
    """Has room for a window of 4096 pages in each fault."""

    async def region_range_fault(self, region, page_offset, page_count):
        probe("driver.alloc", current(), 4096 * 8, "window")
        ret = await super().region_range_fault(region, page_offset, page_count)
        probe("driver.free", current(), 4096 * 8, "window")
        return ret


class FreesTooMuch(Sound):
    """Takes one page for its array and gives back two."""

    async def region_handle_gfn_fault(self, region, gfn):
        probe("driver.alloc", current(), 4096, "window")
        ret = await super().region_handle_gfn_fault(region, gfn)
        probe("driver.free", current(), 8192, "window")
        return ret


class WideRegions(Sound):
    """Has 64 bytes for each page of a region."""

    async def partition_create_region(self, *args):
        ret, region = await super().partition_create_region(*args)
        if region is not None:
            probe("driver.alloc", region, 56 * region.nr_pages, "states")
        return ret, region


class KeepsProcessors(Sound):
    """The partition goes, its processors' objects stay."""

    async def destroy_vps(self, partition):
        pass


@pytest.mark.parametrize(
    ("scenario", "driver", "what", "told"),
    [
        (DISCARD, ForgetsItsArray, "snapshot", "vp0 leaves 4096 bytes for snapshot behind"),
        (RUN, TakesTooMuch, "window", "vp0 has 32768 bytes for window"),
        (RUN, FreesTooMuch, "window", "vp0 frees 4096 bytes for window that it did not allocate"),
        (MAP, WideRegions, "states", "region@0x300 has 65536 bytes for states"),
        (CLOSE, KeepsProcessors, "processors", "partition2 is freed, and vp0 was not"),
    ],
)
def test_what_is_too_much_or_left_over_is_found(scenario, driver, what, told):
    finding = finding_of(scenario, driver, INVARIANT)
    assert finding.title == f"{INVARIANT}: {what}"
    assert finding.story[0] == told


@pytest.mark.parametrize("scenario", [DISCARD, MAP, CLOSE], ids=["discard", "map", "close"])
def test_bounded_use_is_silent(scenario):
    silent(scenario, Sound)
