"""Who pays for table pages, and the four ways in which memory can be short (spec.md 5.3, 5.4)."""

import errno

import pytest

from mshv_async.hyperv import (
    MAP_LARGE_PAGE,
    MAP_NO_ACCESS,
    ROOT_PARTITION_ID,
    UNMAP_LARGE_PAGE,
    HvCall,
    HvStatus,
    Hypervisor,
    PageRun,
    PoolCosts,
    status_to_errno,
)
from mshv_async.sim import Injection

GFN = 0x200
SHORT = (
    "INSUFFICIENT_MEMORY",
    "INSUFFICIENT_ROOT_MEMORY",
    "INSUFFICIENT_CONTIGUOUS_MEMORY",
    "INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY",
)


def no_access(hv, partition, gfn=GFN, reps=1, flags=MAP_NO_ACCESS):
    return hv.call(HvCall.MAP_GPA, partition.id, reps=reps, gfn=gfn, flags=flags)


def deposit(hv, partition_id, *runs):
    reps = sum(run.length for run in runs)
    return hv.call(HvCall.DEPOSIT, partition_id, reps=reps, pfns=runs)


@pytest.mark.parametrize("status", SHORT)
def test_each_way_of_being_short_can_be_injected_and_is_enomem(alone, status):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0, pool=4)
    failure = Injection("hypercall.map_gpa", status=status, force=True)
    result = alone(lambda: no_access(hv, partition), failure)
    assert (result.status.name, result.done) == (status, 0)
    assert status_to_errno(result.status) == -errno.ENOMEM


def test_tables_may_be_paid_by_the_root_and_then_its_pool_is_the_short_one(alone):
    """Whoever deposits to the child then does so for ever."""
    hv = Hypervisor(tables="root", root_pool=1)
    partition = hv.create_partition_direct(vps=0, pool=4)
    assert alone(lambda: no_access(hv, partition, reps=4, gfn=0x3FE)).done == 2
    alone(lambda: deposit(hv, partition.id, PageRun(3, 50)))
    result = alone(lambda: no_access(hv, partition, gfn=0x400))
    assert result.status is HvStatus.INSUFFICIENT_ROOT_MEMORY
    alone(lambda: deposit(hv, ROOT_PARTITION_ID, PageRun(1, 60)))
    assert alone(lambda: no_access(hv, partition, gfn=0x400)).ok
    assert (hv.root.pool.free, partition.pool.free) == (0, 7)


def test_tables_go_back_to_the_root_when_the_partition_is_finalised(alone):
    hv = Hypervisor(tables="root", root_pool=2)
    partition = hv.create_partition_direct(vps=0)
    partition.no_access_direct(0x1000, 512)
    alone(lambda: no_access(hv, partition, reps=4, gfn=0x3FE))
    assert hv.root.pool.used == 3
    alone(lambda: hv.call(HvCall.FINALIZE, partition.id))
    assert (hv.root.pool.used, partition.pool.used) == (0, 0)


def test_the_root_withdraws_from_its_own_pool(alone):
    hv = Hypervisor()
    alone(lambda: deposit(hv, ROOT_PARTITION_ID, PageRun(2, 60)))
    result = alone(lambda: hv.call(HvCall.WITHDRAW, ROOT_PARTITION_ID, reps=512))
    assert result.pages == (PageRun(2, 60),)


@pytest.mark.parametrize("tables", ["partition", "root"])
def test_single_pages_never_meet_a_need_for_consecutive_ones(alone, tables):
    """A deposit of any number of scattered pages leaves the call where it was (bugs.md E10)."""
    hv = Hypervisor(contiguous=8, tables=tables)
    partition = hv.create_partition_direct(vps=0)
    pool = hv.root.pool if tables == "root" else partition.pool
    owner = hv.root if tables == "root" else partition
    root = "ROOT_" if tables == "root" else ""
    assert alone(lambda: no_access(hv, partition)).status.name == f"INSUFFICIENT_{root}MEMORY"
    scattered = [PageRun(1, pfn) for pfn in range(100, 132, 2)]
    alone(lambda: deposit(hv, owner.id, *scattered))
    short = alone(lambda: no_access(hv, partition)).status.name
    assert short == f"INSUFFICIENT_CONTIGUOUS_{root}MEMORY"
    alone(lambda: deposit(hv, owner.id, PageRun(8, 200)))
    assert alone(lambda: no_access(hv, partition)).ok
    assert pool.free == 16


def test_a_group_of_consecutive_pages_serves_that_many_tables_and_goes_back_whole(alone):
    hv = Hypervisor(contiguous=8)
    partition = hv.create_partition_direct(vps=0)
    alone(lambda: deposit(hv, partition.id, PageRun(9, 200)))

    async def eight_tables_and_one_more():
        for block in range(8):
            assert (await no_access(hv, partition, gfn=block * 512)).ok
        short = await no_access(hv, partition, gfn=8 * 512)
        # Pages in the group are not free, whether they serve or not.
        back = await hv.call(HvCall.WITHDRAW, partition.id, reps=512)
        for block in range(7):
            await hv.call(HvCall.UNMAP_GPA, partition.id, reps=1, gfn=block * 512)
        nothing = await hv.call(HvCall.WITHDRAW, partition.id, reps=512)
        await hv.call(HvCall.UNMAP_GPA, partition.id, reps=1, gfn=7 * 512)
        return short, back, nothing

    short, back, nothing = alone(eight_tables_and_one_more)
    assert short.status is HvStatus.INSUFFICIENT_MEMORY
    assert back.pages == (PageRun(1, 208),)
    assert nothing.done == 0
    assert alone(lambda: hv.call(HvCall.WITHDRAW, partition.id, reps=512)).done == 8


def test_set_up_tables_count_as_consecutive_pages(alone):
    hv = Hypervisor(contiguous=8)
    partition = hv.create_partition_direct(vps=0, pool=8)
    partition.no_access_direct(0x1000, 5 * 512)
    assert alone(lambda: no_access(hv, partition)).ok
    alone(lambda: hv.call(HvCall.UNMAP_GPA, partition.id, reps=1, gfn=GFN))
    alone(
        lambda: hv.call(HvCall.UNMAP_GPA, partition.id, reps=5, gfn=0x1000, flags=UNMAP_LARGE_PAGE)
    )
    assert (partition.pool.used, partition.pool.free) == (208, 13)


def test_a_large_entry_needs_no_table(alone):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0)
    assert alone(lambda: no_access(hv, partition, flags=MAP_NO_ACCESS | MAP_LARGE_PAGE)).ok


def test_a_refused_map_draws_no_table(alone):
    """A denied source must not eat the pool."""
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0, pool=1)
    partition.pool.add_frames(0x800, 0x801)
    for gfn in (GFN, GFN + 5):
        result = alone(
            lambda gfn=gfn: hv.call(
                HvCall.MAP_GPA, partition.id, reps=1, gfn=gfn, flags=3, pfns=(PageRun(1, 0x800),)
            )
        )
        assert result.status is HvStatus.OPERATION_DENIED
    assert partition.pool.used == 208


def test_creating_a_partition_is_paid_by_the_root_until_it_is_deleted(alone):
    hv = Hypervisor(costs=PoolCosts(create_partition=3), root_pool=2)

    async def create():
        return await hv.call(HvCall.CREATE_PARTITION, ROOT_PARTITION_ID)

    assert alone(create).status is HvStatus.INSUFFICIENT_MEMORY
    alone(lambda: deposit(hv, ROOT_PARTITION_ID, PageRun(1, 60)))
    child = alone(create).partition_id
    assert hv.root.pool.free == 0
    assert alone(lambda: hv.call(HvCall.DELETE, child)).ok
    assert hv.root.pool.free == 3
