"""Predicted lock inversions are closed, refuted, or left listed with how to come to them."""

import os
import re

import pytest

from mshv_async.driver import V6
from mshv_async.explore import campaign as campaigns
from mshv_async.explore.campaign import Stop, explore_sync
from mshv_async.explore.numbered import play_numbered
from mshv_async.explore.outcome import campaign_outcome
from mshv_async.explore.single import replay_repro
from mshv_async.scenario import Scenario
from mshv_async.sim.strategies import Dfs

SCENARIO = """\
summary = "One VP writes one page while the host changes it"

[[region]]
gfn = 0x200
size = "4KiB"

[[vp]]
program = ["write 0x200"]

[[thread]]
kind = "host"
program = ["{host}"]
"""
# The host holds mmap_lock for writing there, and calls back.
WRITES = 'touch 0x200", "mprotect 0x200 1 r'
# Here it holds it for reading only, as the fault does.
READS = "madvise dontneed 0x200 1"


class TakesBoth(V6):
    """The fault takes mmap_lock under the region's mutex; the callback is called with it held."""

    async def region_range_fault(self, region, page_offset, page_count):
        await region.mutex.lock()
        await region.mni.mm.mmap_lock.down_read()
        await region.mni.mm.mmap_lock.up_read()
        await region.mutex.unlock()
        return await super().region_range_fault(region, page_offset, page_count)


def search(host, **options):
    scenario = Scenario.parse(SCENARIO.format(host=host), "inversion")
    return explore_sync(scenario, TakesBoth, **({"schedules": 3} | options))


@pytest.fixture
def tame(monkeypatch):
    """First come, first served: the one schedule of the search does not meet the deadlock."""
    return lambda host, **options: search(host, strategy="fifo", **options)


def test_an_inversion_that_can_deadlock_becomes_a_finding(tame):
    result = tame(WRITES)
    [found] = result.findings
    assert found.finding.verdict == "deadlock"
    assert (found.first_schedule, found.found_by) == (2, "closing")
    assert result.schedules == 1, "directed executions are no sample of the search"
    assert (result.predicted, result.refuted) == ([], ())
    replayed = replay_repro(found.repro, trust=False, driver=TakesBoth)
    assert replayed.matches
    assert replayed.run.title == found.finding.title


def test_the_same_search_closes_it_in_the_same_execution(tame):
    first, again = tame(WRITES), tame(WRITES)
    assert [f.repro for f in first.findings] == [f.repro for f in again.findings]
    assert first.findings[0].first_schedule == again.findings[0].first_schedule


def test_one_that_no_execution_closes_stays_listed_with_schedules_that_take_its_edges():
    result = search(READS, strategy="random", schedules=5)
    assert (result.findings, result.schedules) == ([], 5)
    [line] = result.predicted
    assert line.endswith("; 60 directed executions did not close it")
    edges = re.findall(r"(\w+) takes ([\w.]+) under ([\w.]+) \(schedule (\d+)\)", line)
    assert {(inner, outer) for _, inner, outer, _ in edges} == {
        ("region.mutex", "mmap_lock"),
        ("mmap_lock", "region.mutex"),
    }
    scenario = Scenario.parse(SCENARIO.format(host=READS), "inversion")
    for thread, inner, outer, schedule in edges:
        run, _ = play_numbered(scenario, TakesBoth, int(schedule), strategy="random", seed=1)
        taken = [
            record.fields["lock_class"]
            for record in run.records
            if getattr(record, "event", "") == "lock.acquire" and record.actor == thread
        ]
        assert inner in taken
        assert outer in taken


@pytest.fixture
def short_dfs(monkeypatch):
    """A search by dfs whose tree is one schedule."""
    begin = Dfs.begin
    monkeypatch.setattr(Dfs, "begin", lambda self, number: number == 0 and begin(self, number))


@pytest.fixture
def unproved(monkeypatch):
    """No proof is tried of what was exhausted: it looks at many executions more."""

    async def prove(*_args, **_options):
        return None

    monkeypatch.setattr(campaigns, "prove", prove)


def check_refuted(result):
    assert result.exhausted
    assert result.predicted == ()
    [line] = result.refuted
    outcome = campaign_outcome(
        result, scenario="inversion", driver="mine", strategy="dfs", seed=1, expected=["clean"]
    )
    assert outcome.object()["refuted"] == [line]
    assert f"refuted: {line}: the search was exhausted" in outcome.report()


def test_one_that_an_exhausted_search_did_not_close_is_refuted(short_dfs, unproved):
    check_refuted(search(READS, strategy="dfs"))


@pytest.mark.skipif("MSHV_ASYNC_LONG" not in os.environ, reason="takes ten seconds")
def test_readers_alone_do_not_deadlock_in_any_schedule():
    check_refuted(search(READS, strategy="stateful", schedules=20_000))


def test_a_bound_of_preemptions_refutes_nothing(short_dfs, unproved):
    result = search(READS, strategy="dfs", preemptions=0)
    assert result.exhausted
    assert (len(result.predicted), result.refuted) == (1, ())


def test_a_search_that_ended_with_a_finding_or_was_stopped_tries_nothing_more(monkeypatch):
    def close(*_args):
        raise AssertionError("nobody asked for more")

    monkeypatch.setattr(campaigns.Closer, "close", close)
    assert search(WRITES, strategy="random", schedules=300).findings
    stop = Stop()
    stop()
    assert search(WRITES, strategy="fifo", stop=stop).interrupted


def test_a_driver_without_inversions_plays_no_execution_more():
    scenario = Scenario.parse(SCENARIO.format(host=WRITES), "none")
    assert explore_sync(scenario, "v6", strategy="random", schedules=7).schedules == 7
