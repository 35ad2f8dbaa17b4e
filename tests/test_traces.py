"""Real input: four VPs replay recorded programs while the host takes their memory back.

Set MSHV_ASYNC_LONG=1 for 20 seeds instead of 2.
"""

from __future__ import annotations

import os
from functools import cache

import pytest

from mshv_async.driver import resolve_driver
from mshv_async.explore.outcome import run_outcome
from mshv_async.explore.playing import Subject, run_result
from mshv_async.hyperv import Access
from mshv_async.log import RunVerdict, analysis_text, analyze, write_log
from mshv_async.oracle.guest_data import GuestData
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage
from mshv_async.sim.strategies import Fifo

SEEDS = range(1, 21 if os.environ.get("MSHV_ASYNC_LONG") == "1" else 3)


@cache
def played(mode, seed=1):
    """Play the scenario and return its runtime and its result."""
    scenario = Scenario.load("stress/traces")
    subject = Subject(scenario, resolve_driver("fix1"))

    async def act(stage):
        return await subject.play(stage, Fifo(), mode=mode, seed=seed, keep=mode == "timed")

    rt = run_on_stage(act, realtime=mode == "realtime")
    return rt, run_result(subject, rt, mode, seed, keep=mode == "timed")


def touches(rt):
    """Return how many values the traces read (instruction fetches included) and how many write."""
    traces = [guest.source.trace for guest in rt.world.guests]
    kinds = [touch.access for trace in traces for touch in trace.touches]
    return sum(kind is not Access.WRITE for kind in kinds), kinds.count(Access.WRITE)


def reads_checked(rt):
    (checker,) = [watcher for watcher in rt.world.oracle if isinstance(watcher, GuestData)]
    return checker.reads_checked


def assert_clean(rt, result):
    assert (rt.cut, rt.finding) == (None, None)
    outcome = run_outcome(
        result, scenario="stress/traces", driver="fix1", seed=1, expected=["clean"]
    )
    assert outcome.as_expected


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
    assert_clean(rt, result)
    assert_every_value_read_was_checked(rt)

    log = tmp_path / "run.jsonl"
    verdict = RunVerdict(
        result.verdict, result.title, result.digest, result.steps, result.virtual_ns
    )
    write_log(log, result.header, result.records, verdict)
    analysis = analyze(log)
    assert analysis.timed
    assert analysis.verdict.verdict == "clean"
    assert analysis.steps == rt.steps
    # The host kept taking memory back, and the guest kept faulting it in.
    assert rt.now_ns > 20_000_000
    assert analysis.faults.count > 20
    assert "verdict: clean" in analysis_text(analysis)


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
    assert len({played("timed", seed)[1].digest for seed in SEEDS}) == len(SEEDS)


def test_in_real_time_it_ends_clean_too():
    rt, result = played("realtime")
    assert_clean(rt, result)
    assert result.digest is None
    assert_every_value_read_was_checked(rt)
