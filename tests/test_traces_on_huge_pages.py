"""Real input on huge pages: khugepaged, the OOM reaper and a device are busy beside it.

Set MSHV_ASYNC_LONG=1 for 20 seeds instead of 2, and for real time.
"""

from __future__ import annotations

import pytest
from trace_playing import LONG, SEEDS, analysed, is_clean, played, reads_checked

from mshv_async.log import analysis_text
from mshv_async.scenario import Scenario

NAME = "stress/traces-huge"
SOUND = "fix1+contiguous-stride"
BATCH_PAGES = 6144
DEVICE_GFN = 0x1000


@pytest.fixture(scope="module", params=SEEDS)
def run(request):
    """The runtime and the result of the run with a seed; all tests of a seed go together."""
    return played(NAME, SOUND, seed=request.param)


def events(rt, name):
    """Return the fields of each event of a name that the run noted."""
    return [fields for *_, fields in rt.notes if fields["event"] == name]


def steps(rt, label, thread=""):
    """Return the operations with a label of the threads whose names begin so."""
    return [
        op
        for tid, op in rt.trace
        if op.label == label and rt.all_threads[tid].name.startswith(thread)
    ]


def accesses(rt):
    """Return the guests' accesses in two lists: to memory, and to the device."""
    found = events(rt, "guest.access")
    return (
        [access for access in found if access["gfn"] < DEVICE_GFN],
        [access for access in found if access["gfn"] >= DEVICE_GFN],
    )


def test_a_timed_run_is_clean_and_checks_all_that_was_read_from_memory(run):
    rt, result = run
    assert is_clean(rt, result)
    of_memory, of_device = accesses(rt)
    reads = [access for access in of_memory if access["kind"] != "write"]
    assert reads_checked(rt) == len(reads) > 20_000
    assert {access["kind"] for access in of_device} == {"read", "write"}
    assert len(of_device) == 20_000
    assert all(access["pfn"] >= rt.world.host.pages for access in of_device)


def test_huge_pages_come_go_and_are_mapped_as_such(run):
    rt, _ = run
    assert steps(rt, "alloc.thp", "vp"), "a fault brings one in"
    collapsed = [fields for fields in events(rt, "thp.collapse") if fields["ret"] == 0]
    assert len(collapsed) > 20
    assert len(events(rt, "pmd.split")) > 20
    assert len(events(rt, "folio.split")) > 20
    # No call has room for so many small ones.
    large = [op for op in steps(rt, "hypercall.map_gpa.rep", "lp-vp") if op.hi - op.lo >= 512]
    assert len(large) > 20


def test_the_reaper_takes_the_memory_of_the_process_that_was_killed(run):
    rt, _ = run
    (end,) = events(rt, "oom.pass")
    assert (end["mm"], end["complete"]) == ("batch", True)
    zapped = [op for op in steps(rt, "pte.zap", "oom-reaper") if op.object_name == "batch.ptes"]
    assert sum(op.hi - op.lo for op in zapped) == BATCH_PAGES
    (gone,) = events(rt, "mm.exit")
    assert gone["mm"] == "batch"
    order = [fields["event"] for *_, fields in rt.notes]
    assert order.index("oom.kill") < order.index("oom.pass") < order.index("mm.exit")


def test_faults_meet_the_host_and_memory_runs_short(run):
    rt, _ = run
    assert len(steps(rt, "cond_resched", "vp")) > 20, "-EBUSY retries"
    assert len(events(rt, "lock.wait")) > 50
    assert events(rt, "kswapd.sleep"), "kswapd ran"


def test_its_log_analyses(tmp_path):
    rt, result = played(NAME, SOUND)
    analysis = analysed(result, tmp_path / "run.jsonl")
    assert (analysis.timed, analysis.steps) == (True, rt.steps)
    assert analysis.faults.count > 100
    assert analysis.ebusy_retries > 20
    assert analysis_text(analysis).startswith("clean\n")


def test_seeds_are_different_runs():
    first, second = (played(NAME, SOUND, seed=seed)[1].digest for seed in (1, 2))
    assert first != second


def versions():
    """Name the other drivers that the scenario speaks of; clean ones take long."""
    expect = Scenario.load(NAME).expect
    return [driver for driver in expect if driver != SOUND and (LONG or expect[driver])]


@pytest.mark.parametrize("driver", versions())
@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_scenario_expects_of_a_version_is_what_comes_out(driver, seed):
    _, result = played(NAME, driver, seed=seed)
    assert (result.verdict,) == Scenario.load(NAME).expected(driver)


@pytest.mark.skipif(not LONG, reason="takes ten seconds")
def test_in_real_time_it_ends_clean_too():
    rt, result = played(NAME, SOUND, "realtime")
    assert is_clean(rt, result)
    assert result.digest is None
