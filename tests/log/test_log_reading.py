"""A log of a run that crashed still tells what it knows; a file that is no log tells so."""

import pytest
from hand_made import HEADER, RACE, TIMED, VERDICT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mshv_async.log import LogError, LogReader, write_log


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "run.jsonl"
    write_log(path, HEADER, RACE, VERDICT)
    return path


def test_what_was_written_is_read(log):
    reader = LogReader(log)
    events = list(reader)
    assert reader.header == HEADER
    assert reader.verdict == VERDICT
    assert reader.note is None
    assert reader.timed is False
    assert [(e.step, e.actor, e.event) for e in events] == [
        (r.step, r.actor, r.label) for r in RACE
    ]


def test_a_timed_log_is_known_from_its_first_line(tmp_path):
    write_log(tmp_path / "run.jsonl", HEADER, [], TIMED)
    assert LogReader(tmp_path / "run.jsonl").timed is True


def test_a_log_cut_within_a_line_is_read_up_to_there_with_a_note(log):
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:5]) + lines[5][:20])
    reader = LogReader(log)
    assert [event.step for event in reader] == [1, 2, 3, 4]
    assert reader.verdict is None
    assert reader.note == "line 6 is cut short and left out: the log ends at step 4"


def test_a_log_cut_between_lines_says_that_the_verdict_is_missing(log):
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:5]))
    reader = LogReader(log)
    assert len(list(reader)) == 4
    assert reader.note == "the log ends without a verdict at step 4"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(share=st.floats(0, 1))
def test_a_log_cut_anywhere_after_its_first_line_never_fails(tmp_path, share):
    path = tmp_path / "run.jsonl"
    write_log(path, HEADER, RACE, VERDICT)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + round(share * (len(whole) - first))])
    reader = LogReader(path)
    steps = [event.step for event in reader]
    assert steps == list(range(1, len(steps) + 1))
    assert (reader.verdict is None) == (reader.note is not None)


def test_a_damaged_line_in_the_middle_is_named(log):
    lines = log.read_bytes().splitlines(keepends=True)
    lines[3] = b'{"t": "soon"}\n'
    log.write_bytes(b"".join(lines))
    with pytest.raises(LogError, match=r"run\.jsonl: line 4 is no log event"):
        list(LogReader(log))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"{}\n",
        b"\x00\xff" * 1000,
        b'{"event": "run.begin"}\n',
        b"[" * 100_000,
        b"x" * 3_000_000,
    ],
    ids=["empty", "text", "object", "binary", "other", "nested", "one long line"],
)
def test_a_file_that_is_no_log_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "some.file"
    path.write_bytes(content)
    with pytest.raises(LogError, match=r"some\.file: is .*no log") as caught:
        LogReader(path)
    assert "\n" not in str(caught.value)


def test_a_log_of_another_schema_is_refused_by_its_name(log):
    log.write_bytes(log.read_bytes().replace(b"mshv-async.log/1", b"mshv-async.log/9"))
    with pytest.raises(LogError, match=r"is no log of schema .*'mshv-async\.log/9'"):
        LogReader(log)


def test_a_users_note_may_use_the_names_of_known_fields_for_other_things(log):
    lines = log.read_bytes().splitlines(keepends=True)
    odd = b'{"t":null,"step":1,"actor":"vp0","event":"own","ret":"text","lock":[1],"done":1.5}\n'
    log.write_bytes(lines[0] + odd + lines[-1])
    assert [event.event for event in LogReader(log)] == ["own"]
