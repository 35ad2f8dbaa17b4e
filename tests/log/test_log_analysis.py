"""People compare drivers by these numbers: each is checked against a run counted by hand."""

import errno

import msgspec
import pytest
from hand_made import HEADER, RACE, TIMED, VERDICT, note, step
from hypothesis import given
from hypothesis import strategies as st

from mshv_async.log import analysis_text, analyze, write_log
from mshv_async.log.analysis import Latency, latency
from mshv_async.log.locks import Spread
from mshv_async.log.tables import duration, table


def analysed(tmp_path, records, verdict=TIMED):
    path = tmp_path / "run.jsonl"
    write_log(path, HEADER, records, verdict)
    return analyze(path)


def faults(latencies_ns, actor="vp0", ret=0):
    records = []
    now = 0
    for ns in latencies_ns:
        records += [
            note(1, now, actor, "fault.begin", gfn=0x200),
            note(2, now + ns, actor, "fault.end", gfn=0x200, ret=ret),
        ]
        now += ns + 1000
    return records


def test_events_and_threads_are_counted_most_frequent_first(tmp_path):
    result = analysed(tmp_path, [*RACE, RACE[2]], VERDICT)
    assert next(iter(result.events.items())) == ("mutex.lock", 2)
    assert result.events["hypercall.map_gpa.rep"] == 1
    assert result.actors == {
        "madvise": 3,
        "vp0": 4,
        "guest0": 1,
        "lp-vp0": 1,
        "lp-madvise": 1,
    }
    assert result.verdict == VERDICT
    assert result.steps == 9


def test_fault_latencies_are_nearest_rank_percentiles_in_virtual_time(tmp_path):
    result = analysed(tmp_path, faults(range(1, 101)))
    assert result.faults.count == 100
    assert result.faults.latency == Latency(50, 90, 99, 100)


@given(st.lists(st.integers(0, 10**12), min_size=1))
def test_percentiles_are_samples_and_grow(samples):
    result = latency(samples)
    ranked = [result.p50_ns, result.p90_ns, result.p99_ns, result.max_ns]
    assert ranked == sorted(ranked)
    assert set(ranked) <= set(samples)
    assert result.max_ns == max(samples)


def test_faults_of_two_threads_at_a_time_are_kept_apart(tmp_path):
    result = analysed(
        tmp_path,
        [
            note(1, 0, "vp0", "fault.begin", gfn=1),
            note(2, 10, "vp1", "fault.begin", gfn=1),
            note(3, 110, "vp1", "fault.end", gfn=1, ret=-errno.EFAULT),
            note(4, 300, "vp0", "fault.end", gfn=1, ret=0),
            note(5, 400, "vp0", "fault.begin", gfn=2),
        ],
    )
    assert result.faults.latency == Latency(100, 300, 300, 300)
    assert (result.faults.failed, result.faults.unfinished) == (1, 1)
    assert result.faults.by_actor == {"vp0": 2, "vp1": 1}


def test_an_exploration_log_measures_locks_in_steps(tmp_path):
    records = [
        note(1, None, "vp0", "fault.begin", gfn=1),
        note(1, None, "vp0", "lock.acquire", lock="r.mutex", lock_class="region"),
        note(4, None, "vp0", "lock.release", lock="r.mutex", lock_class="region"),
        note(4, None, "vp0", "fault.end", gfn=1, ret=0),
    ]
    result = analysed(tmp_path, records, VERDICT)
    assert result.timed is False
    assert (result.faults.count, result.faults.latency) == (1, None)
    assert (result.unit, result.locks[0].acquired) == ("steps", 1)
    assert result.locks[0].hold == Spread(3, 3, 3)


def test_without_the_drivers_notes_a_fault_is_the_guests_stop_until_it_runs_again(tmp_path):
    stop = {"vp": 0, "type": "GPA_INTERCEPT", "access": "WRITE", "gfn": 0x200}
    result = analysed(
        tmp_path,
        [
            note(1, 100, "guest0", "guest.intercept", **stop),
            note(2, 100, "guest1", "guest.intercept", vp=1, type="HALT"),
            note(3, 600, "lp-vp0", "vp.dispatch", partition=1, vp=0),
            note(4, 700, "lp-vp0", "vp.dispatch", partition=1, vp=0),
        ],
    )
    assert (result.faults.count, result.faults.latency.max_ns) == (1, 500)
    assert result.faults.by_actor == {"vp0": 1}


@pytest.mark.parametrize(
    ("records", "retries"),
    [
        ([note(1, 0, "vp0", "fault.retry")] * 3, 3),
        (
            [
                note(1, 0, "vp0", "fault.begin"),
                step(2, "vp0", "notifier.read_begin", t_ns=0),
                step(3, "vp1", "notifier.read_begin", t_ns=0),
                step(4, "vp0", "notifier.read_begin", t_ns=0),
                step(5, "vp0", "notifier.read_begin", t_ns=0),
                note(6, 0, "vp0", "fault.end", ret=0),
                step(7, "vp0", "notifier.read_begin", t_ns=0),
            ],
            2,
        ),
        ([note(1, 0, "vp0", "hmm.range_fault", ret=-errno.EBUSY)] * 2, 2),
        ([note(1, 0, "vp0", "hmm.range_fault", ret=0)], 0),
    ],
    ids=["noted", "attempts of one fault", "returned", "none"],
)
def test_ebusy_retries_are_counted_from_what_the_run_notes(tmp_path, records, retries):
    assert analysed(tmp_path, records).ebusy_retries == retries


def test_lock_waits_and_holds_are_summed_by_class(tmp_path):
    first = {"lock": "region@0x200.mutex", "lock_class": "region->mutex"}
    second = {"lock": "region@0x400.mutex", "lock_class": "region->mutex"}
    result = analysed(
        tmp_path,
        [
            note(1, 0, "vp0", "lock.acquire", **first),
            note(2, 10, "vp1", "lock.wait", **first),
            note(3, 100, "vp0", "lock.release", **first),
            note(4, 110, "vp1", "lock.acquire", **first),
            note(5, 150, "vp1", "lock.release", **first),
            note(6, 200, "vp0", "lock.acquire", **second),
            note(7, 210, "vp1", "lock.wait", **second),
            note(7, 210, "vp1", "lock.acquire", lock="mm0", lock_class="mmap_lock"),
        ],
    )
    mmap_lock, mutex = result.locks
    assert (mmap_lock.lock_class, mmap_lock.still_held) == ("mmap_lock", 1)
    assert (mutex.acquired, mutex.contended) == (3, 2)
    assert mutex.wait == Spread(100, 100, 100)
    assert mutex.hold == Spread(40, 70, 100)
    assert (mutex.still_held, mutex.still_waiting) == (1, 1)


def test_a_reader_that_holds_twice_ends_each_hold(tmp_path):
    lock = {"lock": "mm0.mmap_lock", "lock_class": "mmap_lock"}
    result = analysed(
        tmp_path,
        [
            note(1, 0, "vp0", "lock.acquire", **lock),
            note(2, 10, "vp0", "lock.acquire", **lock),
            note(3, 30, "vp0", "lock.release", **lock),
            note(4, 50, "vp0", "lock.release", **lock),
        ],
    )
    assert result.locks[0].hold == Spread(20, 35, 50)
    assert result.locks[0].still_held == 0


def test_hypercalls_count_elements_done_from_where_the_call_started(tmp_path):
    result = analysed(
        tmp_path,
        [
            note(1, 0, "vp0", "hypercall.issue", code="MAP_GPA", reps=8, start=0),
            note(2, 0, "vp1", "hypercall.issue", code="MAP_GPA", reps=4, start=0),
            note(3, 5, "vp0", "hypercall.return", code="MAP_GPA", status="TIMEOUT", done=6),
            note(4, 5, "vp0", "hypercall.issue", code="MAP_GPA", reps=8, start=6),
            note(5, 9, "vp0", "hypercall.return", code="MAP_GPA", status="SUCCESS", done=8),
            note(6, 9, "vp0", "hypercall.issue", code="DISPATCH_VP", reps=1, start=0),
        ],
    )
    dispatch, mapped = result.hypercalls
    assert (mapped.calls, mapped.reps) == (3, 8)
    assert mapped.statuses == {"SUCCESS": 1, "TIMEOUT": 1}
    assert (dispatch.name, dispatch.calls, dispatch.statuses) == ("DISPATCH_VP", 1, {})


def test_a_cut_log_is_analysed_as_far_as_it_goes(tmp_path):
    path = tmp_path / "run.jsonl"
    write_log(path, HEADER, RACE, VERDICT)
    path.write_bytes(path.read_bytes()[:-80])
    result = analyze(path)
    assert (result.steps, result.verdict) == (9, None)
    text = analysis_text(result)
    assert "note: line 11 is cut short and left out" in text
    assert text.startswith("verdict: unknown")


def test_the_text_says_all_sections_even_of_an_empty_run(tmp_path):
    text = analysis_text(analysed(tmp_path, []))
    for section in ("faults: none noted", "EBUSY retries: 0", "locks: none noted", "hypercalls"):
        assert section in text
    assert text.startswith("clean\n")


def test_the_text_shows_times_in_readable_units(tmp_path):
    lock = {"lock": "m", "lock_class": "region->mutex"}
    text = analysis_text(
        analysed(
            tmp_path,
            [
                *faults([1_500, 2_000_000]),
                note(3, 0, "vp0", "lock.acquire", **lock),
                note(4, 640, "vp0", "lock.release", **lock),
            ],
        )
    )
    assert "1.50 us" in text
    assert "2.00 ms" in text
    assert "640 ns / 640 ns / 640 ns" in text


def test_many_kinds_of_events_are_summed_up_not_listed_for_pages(tmp_path):
    text = analysis_text(analysed(tmp_path, [step(i, "vp0", f"kind{i}") for i in range(1, 60)]))
    assert "(39 more)" in text


def test_the_json_form_holds_everything_the_text_does(tmp_path):
    built = msgspec.to_builtins(analysed(tmp_path, faults([5])))
    assert {"events", "faults", "ebusy_retries", "locks", "hypercalls", "verdict"} <= set(built)


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0 ns"), (999, "999 ns"), (1_000, "1.00 us"), (12_345, "12.3 us"), (10**9, "1.00 s")],
)
def test_durations(ns, text):
    assert duration(ns) == text


def test_tables_align_numbers_to_the_right():
    assert table([("a", "1"), ("bcd", "10")]) == ["  a     1", "  bcd  10"]
