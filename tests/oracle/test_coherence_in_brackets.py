"""What differs while a bracket is open is judged when the last one closes."""

from __future__ import annotations

from types import SimpleNamespace

from mshv_async.host.pte import Pte, PteState
from mshv_async.hyperv.gpa_space import SlatEntry
from mshv_async.oracle.coherence import Coherence
from mshv_async.sim import RangeMap


def changed(*pfns):
    """Give gfn 5 each of some pages in turn inside a bracket; return what is told at its end."""
    slat, ptes, told = RangeMap("slat", linear=True), RangeMap("ptes", linear=True), []
    region = SimpleNamespace(
        name="region", start_gfn=0, nr_pages=8, start_uaddr=0, mni=SimpleNamespace(mm=None)
    )
    world = SimpleNamespace(
        alive=(region,),
        movable=lambda: (region,),
        hv_partition=SimpleNamespace(slat=slat),
        mm=SimpleNamespace(ptes=ptes),
        rt=SimpleNamespace(judge_later=lambda judge: None),
        violated=lambda name, story, objects: told.append(story[0]),
    )
    ptes.set(5, 6, Pte(PteState.PRESENT, 70, True, True))
    coherence = Coherence(world)
    bracket = SimpleNamespace(mm=world.mm)
    coherence.on_begin(bracket)
    for pfn in pfns:
        slat.set(5, 6, SlatEntry("ram", pfn, 15))
        coherence.on_slat(world.hv_partition, 5, 6)
        coherence.judge()
    assert not told
    pending = len(coherence.gfns)
    coherence.on_end(bracket)
    coherence.judge()
    return pending, told


def test_a_page_that_differs_is_told_when_the_bracket_closes():
    pending, told = changed(99)
    assert pending == 1
    assert len(told) == 1


def test_a_page_that_agrees_again_leaves_no_trace():
    assert changed(99, 70) == (0, [])
