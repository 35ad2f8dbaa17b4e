"""Others read these logs with their own tools: names, order and units of the lines are fixed."""

import json

import pytest
import structlog
from hand_made import HEADER, RACE, TIMED, VERDICT, note, step

from mshv_async.log import NoteRecord, write_log


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_first_line_describes_the_run_and_the_last_its_verdict(tmp_path):
    path = tmp_path / "run.jsonl"
    write_log(path, HEADER, RACE, VERDICT)
    first, *between, last = lines_of(path)
    assert first == {
        "t": None,
        "step": 0,
        "actor": "",
        "event": "run.begin",
        "schema": "mshv-async.log/1",
        "scenario": "litmus/one-page",
        "driver": "v6",
        "strategy": "pct",
        "seed": 7,
        "package_version": "0.1.0",
    }
    assert len(between) == len(RACE)
    assert last["event"] == "run.end"
    assert (last["verdict"], last["digest"]) == ("lost-unlock", "ab" * 32)
    assert last["steps"] == last["step"] == 9


def test_every_line_starts_with_the_same_four_keys(tmp_path):
    path = tmp_path / "run.jsonl"
    write_log(path, HEADER, [*RACE, note(9, None, "vp0", "fault.begin", gfn=0x200)], VERDICT)
    assert all(list(line)[:4] == ["t", "step", "actor", "event"] for line in lines_of(path))


def test_a_step_says_its_object_and_range_only_where_it_has_them(tmp_path):
    path = tmp_path / "run.jsonl"
    write_log(path, HEADER, RACE, VERDICT)
    lines = lines_of(path)
    assert lines[1] == {
        "t": None,
        "step": 1,
        "actor": "vp0",
        "event": "thread.start",
        "write": True,
    }
    assert (lines[4]["object"], lines[4]["lo"], lines[4]["hi"]) == (
        "mm0.subscriptions",
        0x7F200,
        0x7F202,
    )
    assert lines[4]["preempted"] is True
    assert lines[8]["decision"] == ["hypercall.unmap_gpa", 1, 2]


def test_a_timed_run_carries_virtual_nanoseconds(tmp_path):
    path = tmp_path / "run.jsonl"
    write_log(path, HEADER, [step(1, "vp0", "hmm.walk", "mm0", t_ns=500)], TIMED)
    assert [line["t"] for line in lines_of(path)] == [0, 500, 12_000]


def test_a_note_whose_field_is_named_like_a_common_key_loses_neither(tmp_path):
    own = NoteRecord(3, None, "vp0", "user.note", {"step": "own", "event": "e"})
    path = tmp_path / "run.jsonl"
    write_log(path, HEADER, [own], VERDICT)
    line = lines_of(path)[1]
    assert (line["step"], line["step_"], line["event"], line["event_"]) == (
        3,
        "own",
        "user.note",
        "e",
    )


def test_a_users_own_structlog_configuration_neither_changes_nor_is_changed(tmp_path):
    def refuse(*_):
        raise AssertionError

    structlog.configure(processors=[refuse])
    try:
        before = structlog.get_config()
        write_log(tmp_path / "run.jsonl", HEADER, RACE, VERDICT)
        assert structlog.get_config() == before
    finally:
        structlog.reset_defaults()
    assert len(lines_of(tmp_path / "run.jsonl")) == len(RACE) + 2


def test_a_log_that_cannot_be_written_is_an_os_error_for_the_command_line_to_tell(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_log(tmp_path / "file" / "run.jsonl", HEADER, RACE, VERDICT)
