"""Rep calls: each element is atomic and visible at once; ``done`` counts from the list start."""

import pytest

from mshv_async.hyperv import (
    MAP_GPA_BATCH,
    MAP_NO_ACCESS,
    UNMAP_GPA_BATCH,
    HvCall,
    HvStatus,
    Hypervisor,
    PageRun,
)
from mshv_async.sim import Grain, Injection
from mshv_async.sim.strategies import RandomWalk

GFN = 0x200
REPS = 5


def world(**options):
    hv = Hypervisor(**options)
    partition = hv.create_partition_direct(vps=0, pool=8)
    return hv, partition


def mapped(partition):
    return [gfn for lo, hi, entry in partition.slat for gfn in range(lo, hi) if entry.rights]


def map_call(hv, partition, reps=REPS, start=0, **fields):
    return hv.call(
        HvCall.MAP_GPA,
        partition.id,
        reps=reps,
        start=start,
        gfn=GFN,
        flags=0x3,
        pfns=(PageRun(reps, 100),),
        **fields,
    )


@pytest.mark.parametrize("rep", range(REPS))
def test_a_call_that_fails_at_an_element_has_done_those_before_it(alone, rep):
    hv, partition = world(named_reps=(rep,))
    failure = Injection("hypercall.map_gpa", status="OPERATION_FAILED", rep=rep, force=True)
    result = alone(lambda: map_call(hv, partition), failure)
    assert result.status is HvStatus.OPERATION_FAILED
    assert result.done == rep
    assert mapped(partition) == [GFN + i for i in range(rep)]


@pytest.mark.parametrize("rep", range(REPS))
def test_a_call_may_come_back_early_without_an_error_but_not_empty_handed(alone, rep):
    hv, partition = world(named_reps=(rep,))
    early = Injection("hypercall.map_gpa", status="SUCCESS", rep=rep, force=True)
    result = alone(lambda: map_call(hv, partition), early)
    assert result.status is HvStatus.SUCCESS
    assert result.done == max(rep, 1)
    assert len(mapped(partition)) == result.done


@pytest.mark.parametrize("start", range(1, REPS))
def test_a_reissued_call_goes_on_where_it_stopped_and_counts_from_the_list_start(alone, start):
    hv, partition = world()
    result = alone(lambda: map_call(hv, partition, start=start))
    assert result.done == REPS
    assert mapped(partition) == [GFN + i for i in range(start, REPS)]
    assert partition.slat.get(GFN + start).pfn == 100 + start


@pytest.mark.parametrize("start", range(1, REPS))
def test_a_reissued_call_that_fails_at_once_still_counts_the_earlier_elements(alone, start):
    hv, partition = world(named_reps=(start,))
    failure = Injection("hypercall.map_gpa", status="INSUFFICIENT_MEMORY", rep=start, force=True)
    result = alone(lambda: map_call(hv, partition, start=start), failure)
    assert (result.status, result.done) == (HvStatus.INSUFFICIENT_MEMORY, start)


@pytest.mark.parametrize("rep", range(REPS))
def test_unmap_fails_part_way_like_map(alone, rep):
    hv, partition = world(named_reps=(rep,))
    partition.no_access_direct(GFN, REPS)
    failure = Injection("hypercall.unmap_gpa", status="TIMEOUT", rep=rep, force=True)
    result = alone(lambda: hv.call(HvCall.UNMAP_GPA, partition.id, reps=REPS, gfn=GFN), failure)
    assert (result.status, result.done) == (HvStatus.TIMEOUT, rep)
    assert partition.slat.total(GFN, GFN + REPS) == REPS - rep


@pytest.mark.parametrize(
    ("call", "reps"),
    [
        (HvCall.MAP_GPA, 0),
        (HvCall.MAP_GPA, MAP_GPA_BATCH + 1),
        (HvCall.UNMAP_GPA, 0),
        (HvCall.UNMAP_GPA, UNMAP_GPA_BATCH + 1),
    ],
)
def test_a_list_that_does_not_fit_the_input_page_is_refused(alone, call, reps):
    hv, partition = world()
    result = alone(
        lambda: hv.call(call, partition.id, reps=reps, gfn=GFN, pfns=(PageRun(reps, 1),))
    )
    assert (result.status, result.done) == (HvStatus.INVALID_HYPERCALL_INPUT, 0)


def test_a_page_list_shorter_than_the_call_is_refused(alone):
    hv, partition = world()
    result = alone(
        lambda: hv.call(
            HvCall.MAP_GPA, partition.id, reps=3, gfn=GFN, flags=1, pfns=(PageRun(2, 1),)
        )
    )
    assert result.status is HvStatus.INVALID_HYPERCALL_INPUT


def test_a_call_to_an_unknown_partition_or_of_an_unknown_code_is_refused(alone):
    hv, partition = world()
    assert alone(lambda: hv.call(HvCall.MAP_GPA, 77, reps=1)).status is (
        HvStatus.INVALID_PARTITION_ID
    )
    assert alone(lambda: hv.call(HvCall.TRANSLATE_VA, partition.id)).status is (
        HvStatus.INVALID_HYPERCALL_CODE
    )


def steps_of(rt, label):
    return [(op.lo, op.hi) for _, op in rt.trace if op.label == label]


def test_elements_that_nobody_names_are_one_step_and_named_ones_their_own(threads):
    hv, partition = world(grain=Grain((GFN + 2,)), named_reps=(4,))
    rt = threads({"vmm": lambda: map_call(hv, partition)})
    spans = [(lo - GFN, hi - GFN) for lo, hi in steps_of(rt, "hypercall.map_gpa.rep")]
    assert spans == [(0, 2), (2, 3), (3, 4), (4, 5)]


def test_exact_makes_every_element_a_step(threads):
    hv, partition = world(grain=Grain((), exact=True))
    rt = threads({"vmm": lambda: map_call(hv, partition)})
    assert len(steps_of(rt, "hypercall.map_gpa.rep")) == REPS


def test_two_calls_over_the_same_pages_can_leave_a_mixture(threads):
    """Grouping must not hide that elements of different calls interleave."""
    mixtures = set()
    for seed in range(60):
        hv, partition = world()

        def no_access(hv=hv, partition=partition):
            return hv.call(HvCall.MAP_GPA, partition.id, reps=REPS, gfn=GFN, flags=MAP_NO_ACCESS)

        def map_all(hv=hv, partition=partition):
            return map_call(hv, partition)

        threads({"a": map_all, "b": no_access}, strategy=RandomWalk(seed))
        assert not partition.in_flight
        mixtures.add(tuple(mapped(partition)))
    assert any(0 < len(found) < REPS for found in mixtures)


def test_calls_over_different_pages_stay_grouped(threads):
    hv, partition = world()

    def other():
        return hv.call(HvCall.MAP_GPA, partition.id, reps=REPS, gfn=GFN + 64, flags=MAP_NO_ACCESS)

    rt = threads({"a": lambda: map_call(hv, partition), "b": other}, strategy=RandomWalk(3))
    assert len(steps_of(rt, "hypercall.map_gpa.rep")) == 2
