"""Deposited = withdrawn + still in the pool, and pages never change pool."""

import pytest

from mshv_async.hyperv import (
    MAP_NO_ACCESS,
    NOACCESS,
    RAM,
    HvCall,
    HvStatus,
    Hypervisor,
    PageRun,
    PoolCosts,
    SlatEntry,
)
from mshv_async.sim import Injection


def deposit(hv, partition, *runs):
    reps = sum(run.length for run in runs)
    return hv.call(HvCall.DEPOSIT, partition.id, reps=reps, pfns=runs)


def withdraw(hv, partition, reps=512):
    return hv.call(HvCall.WITHDRAW, partition.id, reps=reps)


def test_mapping_into_new_space_fails_until_a_table_page_is_deposited(alone):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0, pool=0)

    def no_access():
        return hv.call(HvCall.MAP_GPA, partition.id, reps=4, gfn=0x3FE, flags=MAP_NO_ACCESS)

    assert alone(no_access).status is HvStatus.INSUFFICIENT_MEMORY
    alone(lambda: deposit(hv, partition, PageRun(1, 50)))
    result = alone(no_access)
    assert (result.status, result.done) == (HvStatus.INSUFFICIENT_MEMORY, 2)
    alone(lambda: deposit(hv, partition, PageRun(1, 60)))
    assert alone(no_access).done == 4
    assert partition.pool.free == 0


def test_tables_cost_nothing_with_the_switch_off(alone):
    hv = Hypervisor(costs=PoolCosts(tables=False))
    partition = hv.create_partition_direct(vps=0, pool=0)
    result = alone(
        lambda: hv.call(HvCall.MAP_GPA, partition.id, reps=4, gfn=0x3FE, flags=MAP_NO_ACCESS)
    )
    assert result.status is HvStatus.SUCCESS


def test_set_up_pays_for_itself_and_leaves_the_pool_that_was_asked_for():
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=2, pool=7)
    partition.no_access_direct(0x200, 5000)
    assert partition.pool.free == 7
    assert partition.pool.used == 208 + 2 * 90 + 10


def test_withdraw_returns_the_frames_that_were_deposited_and_then_no_resources(alone):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0)
    alone(lambda: deposit(hv, partition, PageRun(3, 50), PageRun(2, 70)))
    result = alone(lambda: withdraw(hv, partition))
    assert (result.status, result.done) == (HvStatus.NO_RESOURCES, 5)
    assert result.pages == (PageRun(3, 50), PageRun(2, 70))
    assert alone(lambda: withdraw(hv, partition)).done == 0


def test_withdraw_in_small_steps_never_returns_a_page_twice(alone):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0)
    alone(lambda: deposit(hv, partition, PageRun(5, 50)))
    first = alone(lambda: withdraw(hv, partition, reps=2))
    second = alone(lambda: withdraw(hv, partition, reps=3))
    assert first.pages == (PageRun(2, 50),)
    assert second.pages == (PageRun(3, 52),)


def test_pages_in_use_cannot_be_withdrawn(alone):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=1, pool=1)
    partition.no_access_direct(0x200, 1)
    assert alone(lambda: withdraw(hv, partition)).done == 1


def test_a_page_is_deposited_once_whatever_the_partition(alone):
    hv = Hypervisor()
    first = hv.create_partition_direct(vps=0)
    second = hv.create_partition_direct(vps=0)
    alone(lambda: deposit(hv, first, PageRun(2, 50)))
    result = alone(lambda: deposit(hv, second, PageRun(1, 40), PageRun(2, 49)))
    assert (result.status, result.done) == (HvStatus.OPERATION_DENIED, 2)
    assert second.pool.deposited == 208 + 2


@pytest.mark.parametrize("rep", range(4))
def test_a_deposit_that_fails_part_way_keeps_the_pages_before(alone, rep):
    """Whoever frees all pages after such a failure frees pages that the hypervisor owns."""
    hv = Hypervisor(named_reps=(rep,))
    partition = hv.create_partition_direct(vps=0)
    failure = Injection("hypercall.deposit", status="OPERATION_FAILED", rep=rep, force=True)
    result = alone(lambda: deposit(hv, partition, PageRun(4, 50)), failure)
    assert (result.status, result.done) == (HvStatus.OPERATION_FAILED, rep)
    assert partition.pool.free == rep


@pytest.mark.parametrize("rep", range(4))
def test_a_deposit_may_come_back_early_and_be_reissued(alone, rep):
    hv = Hypervisor(named_reps=(rep,))
    partition = hv.create_partition_direct(vps=0)
    early = Injection("hypercall.deposit", status="SUCCESS", rep=rep, force=True)
    result = alone(lambda: deposit(hv, partition, PageRun(4, 50)), early)
    assert result.status is HvStatus.SUCCESS
    assert result.done == partition.pool.free == (rep or 4)
    alone(
        lambda: hv.call(
            HvCall.DEPOSIT, partition.id, reps=4, start=result.done, pfns=(PageRun(4, 50),)
        )
    )
    assert partition.pool.free == 4


@pytest.mark.parametrize(("call", "most"), [("DEPOSIT", 511), ("WITHDRAW", 512)])
def test_a_call_carries_no_more_pages_than_its_input_page(alone, call, most):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0)
    result = alone(
        lambda: hv.call(HvCall[call], partition.id, reps=most + 1, pfns=(PageRun(600, 9),))
    )
    assert result.status is HvStatus.INVALID_HYPERCALL_INPUT


@pytest.mark.parametrize(("failed_deposit", "stay"), [("kept", 3), ("returned", 0)])
def test_what_a_failed_deposit_had_taken_is_kept_or_returned(alone, failed_deposit, stay):
    """Whichever it is, ``done`` says how many pages the hypervisor owns (bugs.md E06)."""
    hv = Hypervisor(named_reps=(3,), failed_deposit=failed_deposit)
    partition = hv.create_partition_direct(vps=0)
    failure = Injection("hypercall.deposit", status="OPERATION_FAILED", rep=3, force=True)
    runs = (PageRun(2, 50), PageRun(2, 60))
    result = alone(lambda: deposit(hv, partition, *runs), failure)
    assert (result.status, result.done) == (HvStatus.OPERATION_FAILED, stay)
    assert partition.pool.free == partition.pool.frames.total(0, 100) == stay


def test_pages_that_came_into_use_meanwhile_are_not_returned(alone):
    hv = Hypervisor(named_reps=(3,), failed_deposit="returned")
    partition = hv.create_partition_direct(vps=0)
    failure = Injection("hypercall.deposit", status="OPERATION_FAILED", rep=3, force=True)
    partition.pool.used += 1
    result = alone(lambda: deposit(hv, partition, PageRun(4, 50)), failure)
    assert result.done == 1
    assert list(partition.pool.frames) == [(50, 51, True)]


@pytest.mark.parametrize(
    ("run", "taken"),
    [
        (PageRun(4, 0x7FE), 2),
        (PageRun(2, 0x800), 0),
        (PageRun(9, 0x805), 0),
        (PageRun(9, 0x807), 0),
        (PageRun(2, 0x808), 2),
        (PageRun(2, 0x700), 2),
        (PageRun(1, 0x900), 1),
    ],
)
def test_a_page_that_a_guest_can_reach_cannot_be_deposited(alone, run, taken):
    """Else a guest could write into the hypervisor's tables."""
    hv = Hypervisor()
    first = hv.create_partition_direct(vps=0)
    second = hv.create_partition_direct(vps=0)
    first.map_direct(0x200, 4, SlatEntry(RAM, 0x804, 0x1))
    first.map_direct(0x210, 2, SlatEntry(RAM, 0x803, 0x1))
    second.map_direct(0x200, 4, SlatEntry(RAM, 0x800, 0x3))
    first.map_direct(0x300, 1, SlatEntry(NOACCESS, 0x900, 0))
    result = alone(lambda: deposit(hv, second, run))
    assert result.done == taken
    assert result.status is (HvStatus.SUCCESS if taken == run.length else HvStatus.OPERATION_DENIED)


class Cleared:
    def __init__(self):
        self.runs = []

    def zero(self, pfn_lo, pfn_hi):
        self.runs.append((pfn_lo, pfn_hi))


def test_withdrawn_pages_come_back_zeroed(alone):
    """What the hypervisor kept in them must not leak, nor what the host had before."""
    memory = Cleared()
    hv = Hypervisor(root_memory=memory)
    partition = hv.create_partition_direct(vps=0)
    alone(lambda: deposit(hv, partition, PageRun(3, 50), PageRun(1, 70)))
    assert memory.runs == []
    alone(lambda: withdraw(hv, partition, reps=2))
    alone(lambda: withdraw(hv, partition))
    assert memory.runs == [(50, 52), (52, 53), (70, 71)]


@pytest.mark.parametrize("failed_deposit", ["kept", "returned"])
def test_watchers_are_told_of_each_page_that_goes_in_and_out(threads, failed_deposit):
    hv = Hypervisor(named_reps=(2,), failed_deposit=failed_deposit)
    partition = hv.create_partition_direct(vps=0)
    facts = []

    def watch(rt):
        for name in ("pool.deposit", "pool.withdraw"):
            rt.watch(name, lambda p, runs, name=name: facts.append((name, p, runs)))

    async def vmm():
        await deposit(hv, partition, PageRun(4, 50))
        await withdraw(hv, partition)

    failure = Injection("hypercall.deposit", status="TIMEOUT", rep=2, force=True)
    threads({"vmm": vmm}, set_up=watch, injections=(failure,))
    taken = (PageRun(2, 50),)
    assert facts == [("pool.deposit", partition, taken), ("pool.withdraw", partition, taken)]
