"""Real input: four VPs replay recorded programs while the host takes their memory back.

Set MSHV_ASYNC_LONG=1 for 20 seeds instead of 2.
"""

from __future__ import annotations

from functools import partial

import pytest
from trace_playing import SEEDS, analysed, is_clean, reads_checked
from trace_playing import played as play

from mshv_async.hyperv import Access
from mshv_async.log import analysis_text

played = partial(play, "stress/traces", "fix1")


def touches(rt):
    """Return how many values the traces read (instruction fetches included) and how many write."""
    traces = [guest.source.trace for guest in rt.world.guests]
    kinds = [touch.access for trace in traces for touch in trace.touches]
    return sum(kind is not Access.WRITE for kind in kinds), kinds.count(Access.WRITE)


def assert_every_value_read_was_checked(rt):
    reads, _ = touches(rt)
    assert reads_checked(rt) == reads > 20_000


def test_the_traces_are_four_vps_of_which_two_replay_the_same():
    rt, _ = played("timed")
    traces = [guest.source.trace for guest in rt.world.guests]
    names = [trace.name.rpartition("/")[2] for trace in traces]
    assert sorted(names) == ["sort.pages", "sort.pages", "sqlite.pages", "xz.pages"]
    assert len(rt.world.partition.pt_mem_regions.regions()) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_timed_run_is_clean_checks_all_reads_and_its_log_analyses(seed, tmp_path):
    rt, result = played("timed", seed)
    assert is_clean(rt, result)
    assert_every_value_read_was_checked(rt)

    analysis = analysed(result, tmp_path / "run.jsonl")
    assert analysis.timed
    assert analysis.verdict.verdict == "clean"
    assert analysis.steps == rt.steps
    # The host kept taking memory back, and the guest kept faulting it in.
    assert rt.now_ns > 20_000_000
    assert analysis.faults.count > 20
    assert analysis_text(analysis).startswith("clean\n")


def test_the_reclaimer_takes_a_tenth_of_the_memory_each_millisecond():
    rt, _ = played("timed")
    rounds = rt.now_ns // 1_000_000
    region = rt.world.partition.pt_mem_regions.first
    isolated = [
        op.hi - op.lo
        for tid, op in rt.trace
        if rt.all_threads[tid].name == "reclaimer" and op.label == "reclaim.isolate"
    ]
    assert sum(isolated) >= rounds * 0.8 * (region.nr_pages // 10)


def test_seeds_are_different_runs_of_the_same_programs():
    assert played("timed", 1)[1].digest != played("timed", 2)[1].digest


def test_in_real_time_it_ends_clean_too():
    rt, result = played("realtime")
    assert is_clean(rt, result)
    assert result.digest is None
    assert_every_value_read_was_checked(rt)
