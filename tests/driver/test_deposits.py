"""Memory that the hypervisor asks for: how much, for whom, under which locks; and roll-backs."""

from __future__ import annotations

import pytest
from driver_world import GFN, Machine, Planted, argument, read, touches, verdict, write

from mshv_async.driver import HV_MAP_GPA_LARGE_PAGE, HV_MAP_GPA_NO_ACCESS
from mshv_async.hyperv import HvStatus
from mshv_async.sim import Injection
from mshv_async.sim.strategies import Fifo

PROFILES = ["v6", "v7", "v9", "fix1"]


class Nth(Fifo):
    """Permitted failures are passed over but for the n-th."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.asked = 0

    def value(self, label, bound):
        del label, bound
        self.asked += 1
        return int(self.asked == self.n)


def failing(status="OPERATION_FAILED", rep=None, within=None, force=False):
    return Injection(at="hypercall.map_gpa", status=status, rep=rep, within=within, force=force)


# -- E01, E03: what a failed map leaves behind ---------------------------------------------------


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize(("patch", "left"), [("", 509 * 512), ("+rollback-in-pages", 0)])
def test_e01_the_rollback_of_large_batches(driver, patch, left):
    machine = Machine(driver + patch)
    flags = HV_MAP_GPA_NO_ACCESS | HV_MAP_GPA_LARGE_PAGE
    act = lambda d: d.hv_call_map_gpa_pages(2, GFN, 1018 * 512, flags, None)  # noqa: E731
    results = machine.call(act, strategy=Nth(2), injections=(failing(rep=0),))
    assert results == [-5]
    assert machine.slat.total(0, 1 << 40) == left


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize(("patch", "left"), [("", 7), ("+count-before-status", 0)])
def test_e03_what_the_failing_batch_had_done(driver, patch, left):
    machine = Machine(driver + patch, named_reps=[7])
    act = lambda d: d.hv_call_map_gpa_pages(2, GFN, 100, HV_MAP_GPA_NO_ACCESS, None)  # noqa: E731
    assert machine.call(act, injections=(failing(rep=7, force=True),)) == [-5]
    assert machine.slat.total(0, 1 << 40) == left


@pytest.mark.parametrize("driver", PROFILES)
def test_e01_and_e03_together_leave_nothing(driver):
    machine = Machine(f"{driver}+rollback-in-pages+count-before-status", named_reps=[7])
    flags = HV_MAP_GPA_NO_ACCESS | HV_MAP_GPA_LARGE_PAGE
    act = lambda d: d.hv_call_map_gpa_pages(2, GFN, 20 * 512, flags, None)  # noqa: E731
    assert machine.call(act, injections=(failing(rep=7, force=True),)) == [-5]
    assert machine.slat.total(0, 1 << 40) == 0


# -- E05: whose pool is short --------------------------------------------------------------------


def map_with_tables_of_the_root(driver, **hv):
    machine = Machine(driver, pool=0, host_pages=2048, hv=hv)
    act = lambda d: d.hv_call_map_gpa_pages(2, GFN, 512, HV_MAP_GPA_NO_ACCESS, None)  # noqa: E731
    results = machine.call(act)
    root, child = machine.hv.root.pool.deposited, machine.hv_partition.pool.frames.total(0, 4096)
    return results[0], root, child


def test_e05_the_root_is_short_and_the_child_gets_the_pages():
    ret, root, child = map_with_tables_of_the_root("fix1", tables="root")
    assert (ret, root) == (-12, 0)
    assert child == 7 * 256  # until the host had no more


@pytest.mark.parametrize("driver", ["v6", "v7", "v9"])
def test_before_february_2026_it_is_a_plain_error(driver):
    assert map_with_tables_of_the_root(driver, tables="root") == (-12, 0, 0)


@pytest.mark.parametrize("driver", PROFILES)
def test_e05_mended(driver):
    found = map_with_tables_of_the_root(f"{driver}+deposit-by-status", tables="root")
    assert found == (0, 1, 0)


@pytest.mark.parametrize("patch", ["", "+deposit-by-status"])
def test_a_short_child_gets_256_pages(patch):
    assert map_with_tables_of_the_root(f"fix1{patch}") == (0, 0, 256)


@pytest.mark.parametrize(
    ("status", "where", "pages"),
    [
        (HvStatus.INSUFFICIENT_MEMORY, 2, 1),
        (HvStatus.INSUFFICIENT_CONTIGUOUS_MEMORY, 2, 8),
        (HvStatus.INSUFFICIENT_ROOT_MEMORY, 1, 1),
        (HvStatus.INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY, 1, 8),
    ],
)
def test_other_calls_deposit_by_status_since_february_2026(status, where, pages):
    machine = Machine("fix1", pool=0)
    pools = {p.id: p.pool for p in machine.hv.partitions}
    before = {i: pool.deposited for i, pool in pools.items()}
    assert machine.call(lambda d: d.hv_deposit_memory(2, status)) == [0]
    grown = {i: pool.deposited - before[i] for i, pool in pools.items()}
    assert grown == {1: 0, 2: 0} | {where: pages}


# -- C23: under the region mutex -----------------------------------------------------------------


def fault_that_deposits(driver):
    """The second window's map runs short; the deposit finds the host short too, and reclaims."""
    machine = Machine(
        driver,
        guests=[touches(write(GFN, "a"), write(GFN + 512, "b"), read(GFN))],
        regions=[argument(GFN, 1024)],
        host_pages=1200,
        swap_pages=4096,
    )
    short = failing("INSUFFICIENT_MEMORY", rep=0, within="region_range_fault")
    rt = machine.play(strategy=Nth(3), injections=(short,))
    return machine, rt


@pytest.mark.parametrize("driver", PROFILES)
def test_c23_reclaim_for_the_deposit_waits_for_the_faults_own_mutex(driver):
    machine, rt = fault_that_deposits(driver)
    assert verdict(rt) == "deadlock"
    mutex = machine.regions()[0].mutex
    assert mutex.owner is not None
    assert mutex.name in rt.finding.objects


@pytest.mark.parametrize("driver", PROFILES)
def test_c23_mended(driver):
    machine, rt = fault_that_deposits(f"{driver}+deposit-outside-mutex")
    assert verdict(rt) == "clean"
    assert machine.unhandled == []
    assert machine.accesses[-1] == ("0r", GFN, "a")
    assert machine.hv_partition.pool.deposited >= 256


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize("rep", [0, 7])
def test_c23_meanwhile_nothing_is_recorded_that_is_not_mapped(driver, rep):
    """A shortage in the middle: what was mapped is inaccessible again before the mutex goes."""
    machine = Machine(
        f"{driver}+deposit-outside-mutex",
        guests=[touches(write(GFN, "a"))],
        regions=[argument(GFN, 16)],
        named_reps=[7],
    )
    seen = []

    def released(lock):
        region = machine.regions()[0]
        if lock is region.mutex:
            mapped = sum(b - a for a, b, e in machine.slat.runs(GFN, GFN + 16) if e.rights)
            seen.append((region.pages.total(0, 16), mapped, machine.slat.total(GFN, GFN + 16)))

    short = failing("INSUFFICIENT_MEMORY", rep=rep, within="region_range_fault")
    rt = machine.play(strategy=Nth(1), injections=(short,), watch={"lock.release": released})
    assert verdict(rt) == "clean"
    assert seen == [(0, 0, 16), (16, 16, 16)]


# -- A09: in a callback --------------------------------------------------------------------------


def reap_of_a_large_page(driver):
    """520 pages: the first 512 are mapped large, but an invalidation of all goes page by page.

    The table page that the large map set free is taken by the map of another region.
    """
    machine = Machine(
        driver,
        guests=[touches(write(GFN, "a"))],
        regions=[argument(GFN, 520)],
        backing="thp",
        host={"thp": "always"},
        pool=0,
    )
    programs = {"vmm": ["map 0x1000 8KiB uaddr=0x50000000"], "oom-reaper": ["reap"]}
    rt = machine.play(programs, strategy=Planted([("vp0", None), ("vmm", None)]))
    return machine, rt


def test_a09_a_split_in_a_nonblockable_callback_allocates():
    assert verdict(reap_of_a_large_page("fix1")[1]) == "sleep-in-atomic"


@pytest.mark.parametrize("driver", ["fix1+no-deposit-in-callback"])
def test_a09_mended_the_large_page_is_taken_away_whole(driver):
    machine, rt = reap_of_a_large_page(driver)
    assert verdict(rt) == "clean"
    assert (GFN, GFN + 512, "noaccess", True) in machine.entries()
    assert machine.hv_partition.pool.frames.total(0, 4096) == 0
    assert machine.regions()[-1].pages.total(0, 520) == 0


@pytest.mark.parametrize("driver", PROFILES)
def test_a09_the_patch_lets_creation_and_faults_deposit(driver):
    machine = Machine(f"{driver}+no-deposit-in-callback", guests=[touches(write(GFN))], pool=0)
    rt = machine.play({"vmm": ["map 0x200 8KiB"]}, strategy=Planted([("vmm", None)]))
    assert verdict(rt) == "clean"
    assert machine.unhandled == []
    assert machine.hv_partition.pool.deposited >= 256


@pytest.mark.parametrize("driver", ["fix1"])
def test_a09_a_blockable_callback_splits_while_there_is_memory(driver):
    machine = Machine(
        f"{driver}+no-deposit-in-callback",
        guests=[touches(write(GFN, "a"))],
        regions=[argument(GFN, 512)],
        backing="thp",
        host={"thp": "always"},
    )
    seen = []
    rt = machine.play(
        {"host": ["madvise dontneed 0x200 8"]},
        strategy=Planted([("vp0", None)]),
        watch={"slat.change": lambda _, lo, hi: seen.append(hi - lo)},
    )
    assert verdict(rt) == "clean"
    assert 8 in seen
