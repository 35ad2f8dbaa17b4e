"""What a region, a fault or a partition leaves behind, and the patches that see to it."""

from __future__ import annotations

import pytest
from driver_world import (
    GFN,
    UADDR,
    Machine,
    Planted,
    argument,
    read,
    touches,
    verdict,
    write,
)

from mshv_async.driver import MshvUserMemRegion, PartitionIoctl
from mshv_async.sim import Injection
from mshv_async.sim.strategies import RandomWalk

PROFILES = ["v6", "v7", "v9", "fix1"]
COUNTED = ["v6+region-refcount", "v7", "v9", "fix1"]


def accessible(machine):
    return [e for e in machine.entries() if e[2] == "ram"]


# -- unmap-before-notifier-removal ---------------------------------------------------------------


def discard_while_unmapping(driver):
    """The host takes a page between the notifier's removal and the SLAT unmap; is it mapped?"""
    machine = Machine(driver, guests=[touches(write(GFN, "a"))], regions=[argument()])
    stale = []

    def freed(host, lo, hi):
        for _, _, entry in machine.slat.runs(GFN, GFN + 2):
            if entry.rights and lo <= entry.pfn < hi:
                stale.append(entry.pfn)

    plan = [("vp0", None), ("vmm", "hypercall.unmap_gpa"), ("host", None)]
    programs = {"vmm": ["unmap 0x200"], "host": ["madvise dontneed 0x200 2"]}
    rt = machine.play(programs, strategy=Planted(plan), watch={"frame.free": freed})
    assert not accessible(machine)
    return verdict(rt), stale


@pytest.mark.parametrize("driver", PROFILES)
def test_without_its_notifier_a_region_is_still_mapped_for_a_moment(driver):
    result, stale = discard_while_unmapping(driver)
    assert (result, len(stale)) == ("clean", 1)


@pytest.mark.parametrize("driver", PROFILES)
def test_unmapped_first_it_never_shows_a_freed_page(driver):
    assert discard_while_unmapping(f"{driver}+unmap-before-notifier-removal") == ("clean", [])


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize("config", [{}, {"mmu_notifier": False}])
def test_the_other_order_unpins_and_unmaps_as_well(driver, config):
    machine = Machine(
        f"{driver}+unmap-before-notifier-removal",
        guests=[touches(write(GFN))],
        regions=[argument()],
        **config,
    )
    rt = machine.play({"vmm": ["unmap 0x200"]}, strategy=Planted([("vp0", None)]))
    assert verdict(rt) == "clean"
    assert machine.regions() == []
    assert not accessible(machine)
    assert not [s for _, _, s in machine.host.frames.runs(1, 4096) if s.pins]


# -- unmap-waits ---------------------------------------------------------------------------------


def unmap_during_fault(driver):
    """The unmap ioctl's result, and what was mapped when it returned and later."""
    machine = Machine(driver, guests=[touches(write(GFN, "a"))], regions=[argument()])
    later = []

    def returned(thread, name, ret, *_):
        del thread, ret
        if name == "unmap_user_memory":
            later.append("returned")

    def changed(partition, lo, hi):
        if any(e.rights for _, _, e in partition.slat.runs(lo, hi)):
            later.append("mapped")

    # The fault has read the pages and is about to take the mutex.
    plan = [("vp0", "alloc.fault.pfns"), ("vmm", "completion.wait"), ("vp0", None)]
    watch = {"ioctl.return": returned, "slat.change": changed}
    rt = machine.play({"vmm": ["unmap 0x200"]}, strategy=Planted(plan), watch=watch)
    assert verdict(rt) == "clean"
    assert machine.regions() == []
    assert not accessible(machine)
    return later


@pytest.mark.parametrize("driver", COUNTED)
def test_a_fault_maps_pages_after_the_unmap_ioctl_returned(driver):
    assert unmap_during_fault(driver) == ["returned", "mapped"]


@pytest.mark.parametrize("driver", COUNTED)
def test_the_unmap_ioctl_waits_for_the_fault(driver):
    assert unmap_during_fault(f"{driver}+unmap-waits") == ["mapped", "returned"]


# -- regions-before-finalize ---------------------------------------------------------------------


def discard_during_destroy(driver):
    machine = Machine(driver, guests=[touches(write(GFN, "a"))], regions=[argument()])
    plan = [("vp0", None), ("vmm", "partition.unpublish"), ("host", None)]
    programs = {
        "vmm": ["close vp 0", "close partition"],
        "host": ["madvise dontneed 0x200 2"],
    }
    rt = machine.play(programs, strategy=Planted(plan))
    assert verdict(rt) == "clean"
    assert machine.hv.partition(2) is None
    return rt.warnings


def test_after_finalize_an_invalidation_fails():
    assert len(discard_during_destroy("fix1")) == 2  # the driver's warning, and the core's


def test_with_its_regions_gone_the_partition_is_not_called_back():
    assert discard_during_destroy("fix1+regions-before-finalize") == {}


# -- return-map-error (D11) ----------------------------------------------------------------------


def map_pinned(driver, rep):
    machine = Machine(driver, mmu_notifier=False, named_reps=[rep])
    machine.mm.add_vma(UADDR, 16 << 12)
    failure = Injection(at="hypercall.map_gpa", status="OPERATION_FAILED", rep=rep, force=True)
    ret = machine.call(
        lambda d: d.partition_ioctl(
            machine.partition,
            PartitionIoctl.SET_GUEST_MEMORY,
            MshvUserMemRegion(16 << 12, GFN, UADDR, 3),
        ),
        injections=(failure,),
    )
    pins = sum(s.pins * (b - a) for a, b, s in machine.host.frames.runs(0, 4096))
    return ret[0], len(machine.regions()), pins, accessible(machine)


@pytest.mark.parametrize("driver", PROFILES)
def test_d11_a_region_without_a_mapping_is_listed(driver):
    assert map_pinned(driver, 0) == (0, 1, 16, [])


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize("rep", [0, 5])
def test_d11_mended_nothing_is_left(driver, rep):
    assert map_pinned(f"{driver}+return-map-error", rep) == (-5, 0, 0, [])


# -- quiet-fault-failure (C22) -------------------------------------------------------------------


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize(("patch", "warnings"), [("", 1), ("+quiet-fault-failure", 0)])
def test_c22_a_fault_on_memory_that_the_vmm_gave_up(driver, patch, warnings):
    machine = Machine(driver + patch, guests=[touches(write(GFN))], regions=[argument()])
    plan = [("vmm", None), ("vp0", None)]
    rt = machine.play({"vmm": ["munmap 0x200 2"]}, strategy=Planted(plan))
    assert verdict(rt) == "clean"
    assert machine.unhandled == [GFN]
    assert len(rt.warnings) == warnings


# -- range-retry (C03) ---------------------------------------------------------------------------


def discard_elsewhere(driver):
    """Count the rounds of a fault while the host discards pages of another window."""
    machine = Machine(driver, guests=[touches(write(GFN, "a"))], regions=[argument(GFN, 1024)])
    rounds = []
    plan = []
    for _ in range(4):
        plan += [("vp0", "hmm.walk"), ("vp0", "mutex.lock"), ("host", "notifier.end")]
        plan += [("host", "notifier.start")]
    rt = machine.play(
        {"host": ["repeat 5 madvise dontneed 0x400 1"]},
        strategy=Planted(plan),
        watch={"lock.release": rounds.append},
    )
    assert verdict(rt) == "clean"
    region = machine.regions()[0]
    assert machine.unhandled == []
    return sum(lock is region.mutex for lock in rounds) - 5  # the callbacks' own


@pytest.mark.parametrize("driver", PROFILES)
def test_c03_pages_that_the_fault_does_not_want_make_it_retry(driver):
    assert discard_elsewhere(driver) > 2


@pytest.mark.parametrize("driver", PROFILES)
def test_c03_mended_it_goes_through_at_once(driver):
    assert discard_elsewhere(f"{driver}+range-retry") == 2  # one of them makes the notifier


@pytest.mark.parametrize("driver", PROFILES)
def test_c03_mended_the_windows_go_with_the_region(driver):
    machine = Machine(
        f"{driver}+range-retry",
        guests=[touches(write(GFN, "a"), write(GFN + 512, "b"), read(GFN))],
        regions=[argument(GFN, 1024)],
    )
    inserted = []
    rt = machine.play(
        {"vmm": ["unmap 0x200"]},
        strategy=Planted([("vp0", None)]),
        watch={"mni.insert": lambda mni: inserted.append(mni.first)},
    )
    assert verdict(rt) == "clean"
    assert inserted == [UADDR, UADDR + (2 << 20)]
    assert machine.mm.subscriptions.itree == ()


@pytest.mark.parametrize("driver", ["v6+region-refcount", "fix1"])
@pytest.mark.parametrize("seed", range(6))
def test_c03_mended_pages_that_it_wants_are_never_stale(driver, seed):
    machine = Machine(
        f"{driver}+range-retry",
        guests=[touches(write(GFN, "a"), read(GFN)), touches(write(GFN + 1), read(GFN))],
        regions=[argument()],
    )
    stale = []

    def freed(host, lo, hi):
        for _, _, entry in machine.slat.runs(GFN, GFN + 2):
            if entry.rights and lo <= entry.pfn < hi:
                stale.append(entry.pfn)

    programs = {"host": ["repeat 3 madvise dontneed 0x200 2"]}
    rt = machine.play(programs, strategy=RandomWalk(seed), watch={"frame.free": freed})
    assert verdict(rt) == "clean"
    assert (stale, machine.unhandled, len(machine.accesses)) == ([], [], 4)
