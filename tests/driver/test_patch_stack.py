"""All patches for what fix1 still does wrong, together: they stack, and the stack works."""

from __future__ import annotations

import random

import pytest
from driver_world import GFN, Machine, Planted, argument, read, touches, verdict, write

from mshv_async.driver import DriverError, list_patches, resolve_driver
from mshv_async.hyperv import SchedulerType
from mshv_async.sim import Injection
from mshv_async.sim.strategies import RandomWalk

FOR_FIX1 = [patch.name for patch in list_patches() if "fix1" in patch.applies_to]
ALL = "fix1+" + "+".join(FOR_FIX1)
HYP = SchedulerType.CLASSIC_LP


def test_fix1_takes_them_all_in_the_order_in_which_they_are_listed():
    assert resolve_driver(ALL).patches == tuple(FOR_FIX1)
    assert len(FOR_FIX1) >= 20


@pytest.mark.parametrize("seed", range(20))
def test_any_order_will_do_but_for_one(seed):
    names = [name for name in FOR_FIX1 if name != "contiguous-stride"]
    random.Random(seed).shuffle(names)
    resolve_driver("fix1+" + "+".join([*names, "contiguous-stride"]))
    with pytest.raises(DriverError, match="put it first"):
        resolve_driver("fix1+contiguous-stride+huge-order-stride")


@pytest.mark.parametrize(
    "spec",
    [
        "v6+region-refcount+unmap-waits+list-before-map+killable-retry+range-retry",
        "v6+rollback-to-no-access+deposit-outside-mutex+no-deposit-in-callback+retry-no-access",
        "v6+per-chunk-stride+deposit-outside-mutex+no-deposit-in-callback",
        "v9+aligned-stride+huge-order-stride+contiguous-stride+rollback-to-no-access",
        "v7+aligned-stride+check-access+unlock-on-failure+range-before-lock",
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_stacks_on_earlier_versions_work(spec, seed):
    play_pressure(spec, seed)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("scheduler", [SchedulerType.ROOT, HYP])
def test_all_together_serve_the_guests_under_pressure(scheduler, seed):
    play_pressure(ALL, seed, scheduler=scheduler)


def play_pressure(driver, seed, **options):
    """Discards, a partial one of a THP among them, reclaim, and a pool that runs dry at times."""
    machine = Machine(
        driver,
        guests=[
            touches(write(GFN, "a"), read(GFN + 9), write(GFN + 512), read(GFN)),
            touches(write(GFN + 1), read(GFN + 512), read(GFN + 8)),
        ],
        regions=[argument(GFN, 1032)],
        backing="thp",
        host={"thp": "always"},
        host_pages=8192,
        swap_pages=2048,
        pool=0,
        **options,
    )
    programs = {
        "host": ["madvise dontneed 0x200 8", "madvise dontneed 0x400 512"],
        "reclaimer": ["reclaim 0x200 16"],
        "vmm": ["signal vp0", "map 0x1000 8KiB uaddr=0x50000000"],
    }
    short = Injection(at="hypercall.map_gpa", status="INSUFFICIENT_MEMORY")
    rt = machine.play(programs, strategy=RandomWalk(seed), injections=(short,))
    assert verdict(rt) == "clean", rt.finding
    assert machine.unhandled == []
    assert len(machine.accesses) == 7
    for region in machine.regions():
        for lo, hi, page in region.pages.runs(0, region.nr_pages):
            for a, _, entry in machine.slat.pieces(region.start_gfn + lo, region.start_gfn + hi):
                assert entry.rights
                assert entry.pfn == page.pfn + a - region.start_gfn - lo


# -- contiguous-stride ---------------------------------------------------------------------------


def refaulted_part(driver):
    """Part of a THP is discarded and written anew by the host, then a guest looks at it."""
    machine = Machine(
        driver,
        guests=[touches(write(GFN, "a"), read(GFN + 8))],
        regions=[argument(GFN, 512)],
        backing="thp",
        host={"thp": "always"},
    )
    plan = [("host", None), ("vp0", None)]
    programs = {"host": ["store 0x200 old", "madvise dontneed 0x208 8", "store 0x208 new"]}
    assert verdict(machine.play(programs, strategy=Planted(plan))) == "clean"
    return machine.accesses[-1], machine.entries(GFN, GFN + 512)[0][3]


def test_a_thp_with_new_pages_in_it_is_mapped_as_if_it_were_whole():
    assert refaulted_part("fix1") == (("0r", GFN + 8, 0), True)


@pytest.mark.parametrize(
    "driver",
    ["fix1+contiguous-stride", "fix1+huge-order-stride+contiguous-stride",
     "v9+aligned-stride+contiguous-stride", "v6"],
)  # fmt: skip
def test_contiguous_stride_maps_the_pages_that_are_there(driver):
    assert refaulted_part(driver) == (("0r", GFN + 8, "new"), False)


# -- killable-retry ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", [SchedulerType.ROOT, HYP])
@pytest.mark.parametrize("seed", range(6))
def test_a_killed_process_leaves_run_vp_under_either_scheduler(scheduler, seed):
    machine = Machine(
        "fix1+killable-retry",
        guests=[touches(*[write(GFN)] * 3), touches(*[write(GFN + 1)] * 3)],
        regions=[argument()],
        scheduler=scheduler,
    )
    programs = {"vmm": ["kill"], "reclaimer": ["repeat 3 reclaim 0x200 2"]}
    rt = machine.play(programs, strategy=RandomWalk(seed))
    assert verdict(rt) == "clean", rt.finding
