"""What a developer reads of a log: who did what, who waits for whom, what befell the region."""

import re

import msgspec
import pytest
from hand_made import HEADER, RACE, TIMED, VERDICT, note, step

from mshv_async.cli import main
from mshv_async.log import (
    Finding,
    RegionPlace,
    StepRecord,
    analysis_text,
    analyze,
    columns,
    difference,
    difference_text,
    report,
    write_log,
)
from mshv_async.log.columns import WIDTH, terminal_width

PLACED = msgspec.structs.replace(
    HEADER, command="mshv-async replay x.json", regions=(RegionPlace(0x200, 0x100000, 16),)
)
FOUND = msgspec.structs.replace(
    VERDICT,
    title="lost-unlock: region_interval_invalidate (region@0x200)",
    story=("host leaves with region@0x200.mutex",),
    stacks={"host": ("madvise", "run"), "vp1": ("a", "b", "c", "d", "e", "f")},
    threads=("host",),
)


def lock(number, actor, event, name="region@0x200.mutex"):
    return note(number, None, actor, f"lock.{event}", lock=name, lock_class=name.split(".")[1])


def analysed(tmp_path, records, header=PLACED, verdict=FOUND):
    write_log(tmp_path / "run.jsonl", header, records, verdict)
    return analyze(tmp_path / "run.jsonl")


def test_the_report_begins_with_title_and_replay_line_and_ends_with_stacks(tmp_path):
    text = analysis_text(analysed(tmp_path, RACE))
    lines = text.splitlines()
    assert lines[0] == "lost-unlock: region_interval_invalidate (region@0x200)"
    assert lines[1] == "replay: mshv-async replay x.json"
    assert "  => host leaves with region@0x200.mutex" in lines
    assert lines[-5:] == [
        "host:",
        "  madvise",
        "  run",
        "also in the driver:",
        "  vp1: a < b < c < … 2 more … < f",
    ]


def test_a_loop_of_the_story_is_one_line_with_its_count(tmp_path):
    records = [note(1, None, "vmm", "op.begin", op="unmap 0x200")]
    records += [note(n, None, "vp0", "hmm.range_fault", ret=-16) for n in range(2, 500)]
    story = analysed(tmp_path, records).story
    assert story == [
        "step 1: vmm begins `unmap 0x200`",
        "step 2: vp0 gets -EBUSY from hmm_range_fault (498 times, last at step 499)",
    ]


def test_a_long_story_keeps_ten_lines_and_what_failed(tmp_path):
    records = [note(n, None, "vp0", "op.begin", op=f"read {n:#x}") for n in range(50)]
    records.insert(9, note(9, None, "vp1", "ioctl.return", ioctl="run_vp", ret=-5))
    story = analysed(tmp_path, records).story
    assert len(story) == 10
    assert "vp1 gets -EIO from ioctl run_vp" in story[0]
    assert story[-1] == "(42 lesser events left out)"


def test_a_chosen_failure_is_told_before_anything_else(tmp_path):
    story = analysed(tmp_path, RACE).story
    failure = "meets a chosen failure: hypercall.unmap_gpa at hypercall.unmap_gpa.rep"
    assert story == [f"step 8: lp-madvise {failure}"]


def test_two_threads_in_a_cycle_stand_side_by_side(tmp_path):
    result = analysed(
        tmp_path,
        [
            lock(1, "vp0", "acquire"),
            lock(2, "host", "acquire", "mm0.mmap_lock"),
            lock(3, "vp0", "wait", "mm0.mmap_lock"),
            lock(4, "host", "wait"),
            lock(5, "vp1", "wait"),
        ],
    )
    lines = analysis_text(result).splitlines()
    at = lines.index("waits in a cycle")
    assert [line.split("   ")[0].strip() for line in lines[at + 1 : at + 5]] == [
        "vp0",
        "---",
        "holds region@0x200.mutex",
        "waits for mm0.mmap_lock",
    ]
    assert lines[at + 3].endswith("holds mm0.mmap_lock")
    assert lines[at + 4].endswith("waits for region@0x200.mutex")
    assert result.waits[2].holders == ("vp0",)


def test_a_lock_taken_and_released_leaves_no_wait(tmp_path):
    result = analysed(tmp_path, [lock(1, "vp0", "acquire"), lock(2, "vp0", "release")])
    assert result.waits == []
    assert "waits" not in analysis_text(result)


def test_threads_say_how_long_they_stood_aside_but_not_while_they_waited(tmp_path):
    records = [
        step(1, "vp0", "a"),
        step(2, "host", "b"),
        *(step(n, "vp1", "c") for n in range(3, 10)),
        step(10, "host", "d"),
        lock(10, "vp0", "wait"),
        step(20, "vp0", "mutex.lock", "region@0x200.mutex"),
    ]
    turns = {t.thread: (t.steps, t.longest_aside) for t in analysed(tmp_path, records).threads}
    assert turns == {"vp0": (2, 0), "host": (2, 7), "vp1": (7, 0)}


def test_the_history_is_that_of_the_region_which_the_finding_names(tmp_path):
    header = msgspec.structs.replace(
        PLACED, regions=(*PLACED.regions, RegionPlace(0x900, 0x200000, 4))
    )
    result = analysed(
        tmp_path,
        [
            note(1, None, "vmm", "ioctl.begin", ioctl="map", gfn=0x900, bytes=4096),
            note(2, None, "vmm", "ioctl.begin", ioctl="map", gfn=0x200, bytes=0x10000),
            note(3, None, "h", "notifier.start", event_type="CLEAR", start=0, end=0x100002000),
            note(4, None, "vp0", "hypercall.issue", code="MAP_GPA", gfn=0x201, reps=2, start=0),
            note(5, None, "vp0", "hypercall.return", code="MAP_GPA", status="SUCCESS", done=2),
        ],
        header=header,
    )
    assert [(e.step, e.text) for e in result.region.events] == [
        (2, "ioctl map gfn 0x200-0x20f"),
        (3, "invalidate CLEAR, gfn 0x200-0x201"),
        (4, "MAP_GPA issued, gfn 0x201-0x202"),
        (5, "MAP_GPA SUCCESS, done 2, gfn 0x201-0x202"),
    ]
    assert "region around the fault: gfns 0x200-0x20f" in analysis_text(result)


def test_the_lines_of_a_report_fit_the_width_but_titles_are_whole(tmp_path):
    records = [note(1, None, "v" * 90, "op.begin", op="read 0x200")]
    lines = analysis_text(analysed(tmp_path, records), 60).splitlines()
    head = lines.index("")
    assert max(map(len, lines[head:])) <= 60


def test_a_pipe_gets_the_fixed_width_and_a_terminal_its_own(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "77")
    assert terminal_width() == WIDTH
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert terminal_width() == 77


def logs(tmp_path, a, b, **more):
    write_log(tmp_path / "a.jsonl", HEADER, a, VERDICT)
    write_log(tmp_path / "b.jsonl", HEADER, b, msgspec.structs.replace(VERDICT, **more))
    return tmp_path / "a.jsonl", tmp_path / "b.jsonl"


def test_equal_logs_are_the_same_even_if_other_commands_made_them(tmp_path, capsys):
    a, b = logs(tmp_path, RACE, RACE)
    assert difference(a, b).same
    assert main(["analyze", str(a), str(b)]) == 0
    assert f"the same: {len(RACE)} events" in capsys.readouterr().out


def test_the_first_difference_is_shown_with_what_each_thread_was_doing(tmp_path, capsys):
    begin = note(1, None, "vp0", "op.begin", op="read 0x200")
    other = [*RACE[:4], step(5, "vp1", "mutex.lock", "m"), *RACE[5:]]
    a, b = logs(tmp_path, [begin, *RACE], [begin, *other])
    found = difference(a, b)
    assert (found.same, found.common, found.a.line) == (False, 5, 7)
    assert found.a.event["event"] == "hypercall.map_gpa.rep"
    assert found.b.event["actor"] == "vp1"
    text = difference_text(found)
    assert re.search(r"vp0 +in `read 0x200`, last at step 3: mutex.lock region@0x200.mutex", text)
    assert re.search(r"stands at hypercall.unmap_gpa.rep slat1 0x200; holds", text) is None
    assert main(["analyze", str(a), str(b), "--json"]) == 1
    assert msgspec.json.decode(capsys.readouterr().out)["common"] == 5


def test_a_field_that_the_analysis_does_not_know_counts_as_a_difference(tmp_path):
    own = [note(1, None, "vp0", "own", colour=colour) for colour in ("red", "blue")]
    found = difference(*logs(tmp_path, [own[0]], [own[1]]))
    assert not found.same
    assert "colour=blue" in found.b.text


@pytest.mark.parametrize("cut", [-90, -700])
def test_a_log_that_was_cut_short_differs_where_it_ends(tmp_path, cut):
    a, b = logs(tmp_path, RACE, RACE)
    b.write_bytes(b.read_bytes()[:cut])
    found = difference(a, b)
    assert not found.same
    assert found.b.note


def test_no_log_is_bad_input_for_a_comparison(tmp_path, capsys):
    (tmp_path / "no.jsonl").write_text("text")
    a, _ = logs(tmp_path, RACE, RACE)
    assert main(["analyze", str(a), str(tmp_path / "no.jsonl")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_steps_of_bystanders_fold_in_their_column():
    steps = [StepRecord(1, None, "host", "mutex.lock", "m")]
    steps += [StepRecord(n, None, "vp1", "own", f"o{n}") for n in range(2, 16)]
    steps += [StepRecord(16, None, "host", "mutex.unlock", "m")]
    steps += [StepRecord(17, None, "vp1", "own", "o")]
    assert any("… 14 steps …" in line for line in columns(steps, involved=["host"]))
    assert not any("…" in line for line in columns(steps))


def test_bystanders_have_one_line_each_and_the_threads_of_the_finding_their_stacks():
    found = Finding("oops", "oops: f", stacks=FOUND.stacks, threads=FOUND.threads)
    text = report(found, [])
    assert "host:\n  madvise\n  run\nalso in the driver:\n  vp1: a < b" in text


def test_the_last_line_of_a_timed_run_is_not_before_the_others(tmp_path):
    path = tmp_path / "run.jsonl"
    main(["run", "litmus/two-vps-one-reclaimer", "--log", str(path)])
    times = [msgspec.json.decode(line)["t"] for line in path.read_bytes().splitlines()]
    assert times[-1] == max(times)
    assert TIMED.virtual_ns is not None
