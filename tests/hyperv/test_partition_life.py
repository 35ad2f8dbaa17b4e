import pytest

from mshv_async.hyperv import (
    MAP_NO_ACCESS,
    ROOT_PARTITION_ID,
    HvCall,
    HvRegister,
    HvStatus,
    Hypervisor,
    PageRun,
    PartitionState,
    RegisterValue,
    accepts,
)
from mshv_async.sim import Injection, Op, do
from mshv_async.sim.strategies import RandomWalk

S = PartitionState


@pytest.mark.parametrize(
    ("state", "taken", "refused"),
    [
        (S.UNINITIALIZED, "DEPOSIT WITHDRAW INITIALIZE DELETE", "MAP_GPA CREATE_VP FINALIZE"),
        (S.ACTIVE, "DEPOSIT WITHDRAW MAP_GPA CREATE_VP DISPATCH_VP FINALIZE", "DELETE"),
        (S.FINALIZING, "WITHDRAW FINALIZE", "DEPOSIT MAP_GPA UNMAP_GPA DELETE DISPATCH_VP"),
        (S.FINALIZED, "WITHDRAW DELETE", "DEPOSIT MAP_GPA UNMAP_GPA FINALIZE INITIALIZE"),
    ],
)
def test_each_state_takes_the_calls_of_the_published_table(state, taken, refused):
    assert all(accepts(state, HvCall[name]) for name in taken.split())
    assert not any(accepts(state, HvCall[name]) for name in refused.split())


def test_a_partition_lives_from_create_to_delete(alone):
    hv = Hypervisor()

    async def life():
        made = await hv.call(HvCall.CREATE_PARTITION, ROOT_PARTITION_ID)
        child = made.partition_id
        short = await hv.call(HvCall.INITIALIZE, child)
        await hv.call(HvCall.DEPOSIT, child, reps=298, pfns=(PageRun(298, 1000),))
        started = await hv.call(HvCall.INITIALIZE, child)
        vp = await hv.call(HvCall.CREATE_VP, child, vp_index=0)
        again = await hv.call(HvCall.CREATE_VP, child, vp_index=0)
        poor = await hv.call(HvCall.CREATE_VP, child, vp_index=1)
        ended = await hv.call(HvCall.FINALIZE, child)
        full = await hv.call(HvCall.DELETE, child)
        back = await hv.call(HvCall.WITHDRAW, child, reps=512)
        gone = await hv.call(HvCall.DELETE, child)
        after = await hv.call(HvCall.WITHDRAW, child, reps=1)
        assert back.pages == (PageRun(298, 1000),)
        return [r.status for r in (short, started, vp, again, poor, ended, full, gone, after)]

    assert alone(life) == [
        HvStatus.INSUFFICIENT_MEMORY,
        HvStatus.SUCCESS,
        HvStatus.SUCCESS,
        HvStatus.INVALID_VP_INDEX,
        HvStatus.INSUFFICIENT_MEMORY,
        HvStatus.SUCCESS,
        HvStatus.OPERATION_DENIED,
        HvStatus.SUCCESS,
        HvStatus.INVALID_PARTITION_ID,
    ]


def test_mapping_after_finalize_fails_by_state(alone):
    """Regions that are destroyed after FINALIZE meet this in their callbacks."""
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=1, pool=4)
    partition.no_access_direct(0x200, 8)

    async def late():
        await hv.call(HvCall.FINALIZE, partition.id)
        return await hv.call(HvCall.UNMAP_GPA, partition.id, reps=8, gfn=0x200)

    result = alone(late)
    assert (result.status, result.done) == (HvStatus.INVALID_PARTITION_STATE, 0)
    assert not partition.slat
    assert partition.pool.used == 0


def test_finalize_stops_the_virtual_processors(alone):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=1)

    async def end():
        clear = (RegisterValue(HvRegister.EXPLICIT_SUSPEND, 0),)
        await hv.call(HvCall.SET_VP_REGISTERS, partition.id, reps=1, registers=clear)
        await hv.call(HvCall.FINALIZE, partition.id)
        return await hv.call(HvCall.DISPATCH_VP, partition.id)

    assert alone(end).status is HvStatus.INVALID_PARTITION_STATE
    assert not partition.vps[0].runnable


def test_a_parent_with_children_cannot_be_finalised(alone):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0)
    child = hv.new_partition(parent=partition.id)

    async def calls():
        return (
            await hv.call(HvCall.FINALIZE, partition.id),
            await hv.call(HvCall.DEPOSIT, child.id, reps=1, pfns=(PageRun(1, 5),)),
        )

    parent, stranger = alone(calls)
    assert parent.status is HvStatus.OPERATION_DENIED
    assert stranger.status is HvStatus.ACCESS_DENIED


ALL_CALLS = set(HvCall)


@pytest.mark.parametrize(
    ("state", "taken"),
    [
        (S.UNINITIALIZED, "DEPOSIT WITHDRAW INITIALIZE DELETE GET_PARTITION_PROPERTY "
         "SET_PARTITION_PROPERTY"),
        (S.FINALIZING, "WITHDRAW FINALIZE"),
        (S.FINALIZED, "WITHDRAW DELETE"),
        (S.DELETED, ""),
    ],
)  # fmt: skip
def test_every_call_that_a_state_does_not_name_is_refused(state, taken):
    assert {call for call in ALL_CALLS if accepts(state, call)} == {
        HvCall[name] for name in taken.split()
    }


def test_a_finalize_that_stops_half_way_is_issued_again(alone):
    """Between the two the table is whole, but no call changes it any more."""
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=1, pool=4)
    partition.no_access_direct(0x200, 8)
    failure = Injection("hypercall.finalize", status="TIMEOUT", rep=1, force=True)

    async def calls():
        half = await hv.call(HvCall.FINALIZE, partition.id)
        state = partition.state
        change = await hv.call(HvCall.MAP_GPA, partition.id, reps=1, gfn=0x200, flags=MAP_NO_ACCESS)
        deleted = await hv.call(HvCall.DELETE, partition.id)
        whole = await hv.call(HvCall.FINALIZE, partition.id)
        late = await hv.call(HvCall.FINALIZE, partition.id)
        return state, [r.status for r in (half, change, deleted, whole, late)]

    state, statuses = alone(calls, failure)
    assert state is S.FINALIZING
    assert statuses == [
        HvStatus.TIMEOUT,
        HvStatus.INVALID_PARTITION_STATE,
        HvStatus.INVALID_PARTITION_STATE,
        HvStatus.SUCCESS,
        HvStatus.INVALID_PARTITION_STATE,
    ]
    assert not partition.slat
    assert partition.pool.used == 0


@pytest.mark.parametrize("seed", range(40))
def test_two_finalizes_and_a_delete_race_without_reviving_the_partition(threads, seed):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=1)
    seen = []

    async def one():
        seen.append((await hv.call(HvCall.FINALIZE, partition.id)).status)

    async def other():
        seen.append((await hv.call(HvCall.FINALIZE, partition.id)).status)
        await hv.call(HvCall.WITHDRAW, partition.id, reps=512)
        await hv.call(HvCall.DELETE, partition.id)

    strategy = RandomWalk(seed)
    assert threads({"one": one, "other": other}, strategy=strategy).finding is None
    assert HvStatus.SUCCESS in seen
    assert set(seen) <= {
        HvStatus.SUCCESS,
        HvStatus.INVALID_PARTITION_STATE,
        HvStatus.INVALID_PARTITION_ID,
    }
    assert (partition.state, hv.partition(partition.id)) == (S.DELETED, None)


@pytest.mark.parametrize("call", ["MAP_GPA", "UNMAP_GPA", "FINALIZE", "DELETE", "INITIALIZE"])
def test_the_root_cannot_do_to_itself_what_a_parent_does(alone, call):
    hv = Hypervisor(root_pool=1)
    result = alone(lambda: hv.call(HvCall[call], ROOT_PARTITION_ID, reps=1, flags=MAP_NO_ACCESS))
    assert result.status is HvStatus.ACCESS_DENIED


def test_partitions_are_created_by_the_root_for_itself_only(alone):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0)
    result = alone(lambda: hv.call(HvCall.CREATE_PARTITION, partition.id))
    assert result.status is HvStatus.ACCESS_DENIED


def test_an_uninitialised_partition_is_deleted_once_its_pool_is_empty(alone):
    hv = Hypervisor()

    async def life():
        child = (await hv.call(HvCall.CREATE_PARTITION, ROOT_PARTITION_ID)).partition_id
        await hv.call(HvCall.DEPOSIT, child, reps=1, pfns=(PageRun(1, 5),))
        finalised = await hv.call(HvCall.FINALIZE, child)
        full = await hv.call(HvCall.DELETE, child)
        await hv.call(HvCall.WITHDRAW, child, reps=1)
        gone = await hv.call(HvCall.DELETE, child)
        return [r.status for r in (finalised, full, gone)]

    assert alone(life) == [
        HvStatus.INVALID_PARTITION_STATE,
        HvStatus.OPERATION_DENIED,
        HvStatus.SUCCESS,
    ]


def test_deleting_a_virtual_processor_gives_its_pages_back(alone):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=2)

    async def calls():
        gone = await hv.call(HvCall.DELETE_VP, partition.id, vp_index=1)
        again = await hv.call(HvCall.DELETE_VP, partition.id, vp_index=1)
        dispatched = await hv.call(HvCall.DISPATCH_VP, partition.id, vp_index=1)
        anew = await hv.call(HvCall.CREATE_VP, partition.id, vp_index=1)
        return [r.status for r in (gone, again, dispatched, anew)]

    assert alone(calls) == [
        HvStatus.SUCCESS,
        HvStatus.INVALID_VP_INDEX,
        HvStatus.INVALID_VP_INDEX,
        HvStatus.SUCCESS,
    ]
    assert partition.pool.used == 208 + 2 * 90


def test_a_dispatched_virtual_processor_is_not_deleted(threads):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=1)
    vp = partition.vps[0]
    seen = []

    def suspend(value):
        registers = (RegisterValue(HvRegister.EXPLICIT_SUSPEND, value),)
        return hv.call(HvCall.SET_VP_REGISTERS, partition.id, reps=1, registers=registers)

    async def vp0():
        await suspend(0)
        await hv.call(HvCall.DISPATCH_VP, partition.id)

    async def other():
        await do(Op("other.wait", vp, guard=vp.may_run))
        for _ in range(2):
            seen.append((await hv.call(HvCall.DELETE_VP, partition.id)).status)
            await suspend(1)

    assert threads({"vp0": vp0, "other": other}).finding is None
    assert seen == [HvStatus.INVALID_VP_STATE, HvStatus.SUCCESS]
