"""Deposited = withdrawn + still in the pool, and pages never change pool."""

import pytest

from mshv_async.hyperv import (
    MAP_NO_ACCESS,
    HvCall,
    HvStatus,
    Hypervisor,
    PageRun,
    PoolCosts,
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
