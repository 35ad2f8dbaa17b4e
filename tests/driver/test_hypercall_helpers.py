"""Batches, deposits and rollbacks, with the quirks that versions had."""

from __future__ import annotations

import pytest
from driver_world import GFN, Machine, argument, read, touches, verdict, write

from mshv_async.driver import HV_MAP_GPA_NO_ACCESS, HV_UNMAP_GPA_LARGE_PAGE
from mshv_async.hyperv import HvCall
from mshv_async.sim import Injection
from mshv_async.sim.strategies import Fifo


def call_helper(machine, act, **options):
    """Run one coroutine on a thread of its own; return its result and the calls issued."""
    results, calls = [], []

    async def body():
        results.append(await act(machine.driver))

    issued = machine.hv.engine.__class__.call

    async def spied(engine, request):
        calls.append((request.code, request.reps))
        return await issued(engine, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine.hv.engine.__class__, "call", spied)
        rt = machine.play(bodies={"ioctl": body}, **options)
    assert rt.finding is None, rt.finding
    return results[0], calls


def test_no_access_goes_out_in_batches_of_509():
    machine = Machine(pool=16)
    act = lambda d: d.hv_call_map_gpa_pages(2, GFN, 1200, HV_MAP_GPA_NO_ACCESS, None)  # noqa: E731
    ret, calls = call_helper(machine, act)
    assert ret == 0
    assert calls == [(HvCall.MAP_GPA, 509), (HvCall.MAP_GPA, 509), (HvCall.MAP_GPA, 182)]
    assert machine.slat.total(GFN, GFN + 1200) == 1200


def test_an_empty_pool_is_filled_by_256_pages_and_the_map_goes_on():
    machine = Machine(pool=0)
    act = lambda d: d.hv_call_map_gpa_pages(2, GFN, 600, HV_MAP_GPA_NO_ACCESS, None)  # noqa: E731
    ret, calls = call_helper(machine, act)
    assert ret == 0
    assert (HvCall.DEPOSIT, 256) in calls
    assert machine.slat.total(GFN, GFN + 600) == 600
    assert machine.hv_partition.pool.deposited >= 256


def test_a_deposit_without_memory_fails_and_rolls_back():
    machine = Machine(pool=1)
    no_memory = Injection(at="alloc.deposit", errno="ENOMEM", force=True)
    # gfn 0x200 … 0x3ff needs one table, which is there; the next 2 MiB need another.
    act = lambda d: d.hv_call_map_gpa_pages(2, GFN, 1100, HV_MAP_GPA_NO_ACCESS, None)  # noqa: E731
    ret, calls = call_helper(machine, act, injections=(no_memory,))
    assert ret == -12
    assert calls[-1] == (HvCall.UNMAP_GPA, 509)
    # E03: the three pages that the failing batch had done are not rolled back.
    assert machine.slat.runs(0, 1 << 40)[0][:2] == (GFN + 509, GFN + 512)


@pytest.mark.parametrize(("count", "ret"), [(512, -7), (0, -22), (511, -22)])
def test_limits_of_the_arguments(count, ret):
    machine = Machine()
    if count == 512:
        act = lambda d: d.hv_call_deposit_pages(2, 512)  # noqa: E731
    else:
        act = lambda d: d.hv_call_unmap_gpa_pages(2, GFN, count, HV_UNMAP_GPA_LARGE_PAGE)  # noqa: E731
    assert call_helper(machine, act) == (ret, [])


# -- rollback ------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["v6", "v7", "v9", "fix1"])
def test_c06_a_failed_fault_leaves_its_first_batch_absent(driver):
    """The window is 512 pages: the second call has 3, and fails; what the first did is unmapped."""
    machine = Machine(driver, guests=[touches(read(GFN), read(GFN))], regions=[argument(pages=512)])
    rt = fail_second_batch(machine)
    assert verdict(rt) == "clean"
    assert machine.slat.get(GFN) is None
    assert machine.unhandled == [GFN, GFN]


@pytest.mark.parametrize("driver", ["v6", "v7", "fix1"])
def test_c06_mended_the_next_touch_is_served(driver):
    machine = Machine(
        f"{driver}+rollback-to-no-access",
        guests=[touches(read(GFN), read(GFN))],
        regions=[argument(pages=512)],
    )
    rt = fail_second_batch(machine)
    assert verdict(rt) == "clean"
    assert machine.unhandled == [GFN]
    assert machine.accesses == [("0r", GFN, 0)]
    region = machine.regions()[0]
    assert region.pages.total(0, 512) == 512


class SecondBatchFails(Fifo):
    """The first permitted failure is passed over, the second taken: batches are asked in turn."""

    def __init__(self) -> None:
        self.asked = 0

    def value(self, label, bound):
        self.asked += 1
        return int(self.asked == 2)


def fail_second_batch(machine):
    rep_0 = Injection(
        at="hypercall.map_gpa", status="OPERATION_FAILED", within="region_range_fault", rep=0
    )
    return machine.play(injections=(rep_0,), strategy=SecondBatchFails())


@pytest.mark.parametrize(
    ("driver", "access"),
    [("v6+unlock-on-failure", True), ("v6+unlock-on-failure+retry-no-access", False),
     ("fix1", True), ("fix1+retry-no-access", False)],
)  # fmt: skip
def test_a02_a_retried_no_access_leaves_no_stale_entry(driver, access):
    machine = Machine(driver, guests=[touches(write(GFN))], regions=[argument()])
    rt = machine.play(
        {"host": ["sleep 9000000", "madvise dontneed 0x200 2"]},
        mode="timed",
        injections=(
            Injection(
                at="hypercall.map_gpa",
                status="OPERATION_FAILED",
                within="region_interval_invalidate",
                force=True,
            ),
        ),
    )
    assert verdict(rt) == "clean"
    assert bool(machine.slat.get(GFN).rights) is access
