import pytest

from mshv_async.hyperv import (
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
