"""Guest memory works: what is mapped can be used, what is unmapped cannot, content follows."""

from __future__ import annotations

import time

import pytest
from driver_world import GFN, Machine, argument, read, touches, verdict, write

from mshv_async.hyperv import SchedulerType
from mshv_async.sim.strategies import RandomWalk

PROFILES = ["v6", "v7", "v9", "fix1"]


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize("scheduler", [SchedulerType.ROOT, SchedulerType.CLASSIC_LP])
def test_guest_writes_are_read_back_by_guest_and_host(driver, scheduler):
    machine = Machine(
        driver,
        guests=[touches(write(GFN, "a"), read(GFN), read(GFN + 1))],
        regions=[argument()],
        scheduler=scheduler,
    )
    rt = machine.play({"host": ["touch 0x200"]})
    assert verdict(rt) == "clean"
    assert machine.accesses == [("0w", GFN, "a"), ("0r", GFN, "a"), ("0r", GFN + 1, 0)]
    assert machine.unhandled == []
    # One fault served the whole window, and both pages are recorded.
    assert [r.pages.total(0, 2) for r in machine.regions()] == [2]


@pytest.mark.parametrize("driver", PROFILES)
def test_map_then_unmap_leaves_nothing_accessible(driver):
    machine = Machine(driver, guests=[touches(write(GFN))])
    rt = machine.play({"vmm": ["map 0x200 8KiB", "sleep 1000", "unmap 0x200"]}, mode="timed")
    assert verdict(rt) == "clean"
    assert machine.ioctls == [("map_user_memory", 0), ("unmap_user_memory", 0)]
    assert machine.regions() == []
    assert not [e for _, _, e in machine.slat.runs(0, 1 << 40) if e.rights]
    assert machine.mm.subscriptions is not None
    assert machine.mm.subscriptions.itree == ()


@pytest.mark.parametrize("driver", PROFILES)
def test_discarded_page_is_faulted_in_again_as_zero(driver):
    machine = Machine(driver, guests=[touches(write(GFN, "a"))], regions=[argument()])
    assert (
        verdict(machine.play({"host": ["sleep 5000000", "madvise dontneed 0x200 1"]}, mode="timed"))
        == "clean"
    )
    region = machine.regions()[0]
    assert region.pages.get(0) is None
    assert region.pages.get(1) is not None
    assert not machine.slat.get(GFN).rights
    assert machine.slat.get(GFN + 1).rights


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize("seed", range(6))
def test_random_schedules_of_faults_and_discards_are_clean(driver, seed):
    machine = Machine(
        driver,
        guests=[touches(write(GFN), read(GFN + 1)), touches(write(GFN + 1), read(GFN))],
        regions=[argument()],
        swap_pages=16,
    )
    host = ["repeat 3 madvise dontneed 0x200 2"]
    rt = machine.play({"host": host, "reclaimer": ["reclaim 0x200 2"]}, strategy=RandomWalk(seed))
    assert verdict(rt) == "clean"
    assert machine.unhandled == []
    assert len(machine.accesses) == 4


def test_a_region_of_4_tib_is_set_up_as_fast_as_a_small_one():
    began = time.perf_counter()
    machine = Machine(guests=[touches(write(GFN))], regions=[argument(pages=1 << 30)])
    assert time.perf_counter() - began < 1
    assert verdict(machine.play()) == "clean"
    region = machine.regions()[0]
    assert region.pages.total(0, 1 << 30) == 512
    assert len(machine.slat.runs(0, 1 << 52)) <= 3


def test_a_map_shows_up_as_set_up_does():
    """What a program maps and what set-up builds are the same thing."""
    built = Machine(regions=[argument()])
    mapped = Machine()
    mapped.play({"vmm": ["map 0x200 8KiB"]})
    ours, theirs = built.regions()[0], mapped.regions()[0]
    fields = ("start_gfn", "nr_pages", "start_uaddr", "hv_map_flags", "is_ram", "range_pinned")
    assert [getattr(ours, f) for f in fields] == [getattr(theirs, f) for f in fields]
    assert (ours.mni.first, ours.mni.last) == (theirs.mni.first, theirs.mni.last)
    assert built.slat.runs(0, 1 << 40) == mapped.slat.runs(0, 1 << 40)


def test_without_notifiers_regions_are_pinned_and_never_fault():
    machine = Machine(guests=[touches(write(GFN, "a"))], mmu_notifier=False)
    rt = machine.play({"vmm": ["map 0x200 8KiB", "madvise dontneed 0x200 1"]})
    assert verdict(rt) == "clean"
    region = machine.regions()[0]
    assert region.range_pinned
    assert region.pages.total(0, 2) == 2
