"""A repro is mailed around and edited by hand: it comes back whole, or says what is wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mshv_async.explore import Repro, ReproError, load_repro, save_repro
from mshv_async.explore.repro import StepTable, TapeEntry, check_trust, step_table

REPRO = Repro(
    scenario='summary = "one page"\n',
    scenario_name="litmus/one-page",
    files={"traces/xz.pages": "0x200 r\n"},
    driver="v6",
    driver_source=None,
    strategy="pct",
    seed=7,
    decisions=[TapeEntry("thread", 1, 3), TapeEntry("hypercall.map_gpa", 1, 2)],
    digest="ab" * 32,
    verdict="lost-unlock",
    title="lost-unlock: region_interval_invalidate (region.mutex)",
    package_version="0.1.0",
    steps=StepTable(["vp0 mutex.lock m w", "vp0 mutex.unlock m w"], [0, 1, 0]),
)

KEYS = [
    "schema",
    "scenario",
    "scenario_name",
    "files",
    "driver",
    "driver_source",
    "strategy",
    "seed",
    "decisions",
    "digest",
    "verdict",
    "title",
    "package_version",
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "1-lost-unlock.repro.json"
    save_repro(path, REPRO)
    return path


def edited(file, **keys):
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))
    return file


def test_a_repro_comes_back_as_it_was_saved(file):
    assert load_repro(file) == REPRO


def test_the_file_has_the_fixed_keys_and_decisions_as_triples(file):
    data = json.loads(file.read_text())
    assert list(data)[: len(KEYS)] == KEYS
    assert data["schema"] == "mshv-async.repro/1"
    assert data["decisions"] == [["thread", 1, 3], ["hypercall.map_gpa", 1, 2]]


def test_each_key_has_a_line_of_its_own_so_that_diffs_of_repros_can_be_read(file):
    lines = file.read_text().splitlines()
    assert [json.loads("{" + line.rstrip(",") + "}") for line in lines[1:-1]]


def test_saving_leaves_nothing_else_in_the_folder(file):
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_repro_without_step_lines_or_with_unknown_keys_still_loads(file):
    data = json.loads(file.read_text()) | {"from_the_future": 1}
    del data["steps"]
    file.write_text(json.dumps(data))
    assert load_repro(file).steps == StepTable([], [])


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", b"not json", b"\xff\xfe\x00", b"[" * 100_000, b'{"schema": 1}'],
    ids=["empty", "no keys", "a list", "text", "binary", "nested", "wrong type"],
)
def test_what_is_no_repro_is_refused_in_one_line(file, content):
    file.write_bytes(content)
    with pytest.raises(ReproError, match=r"1-lost-unlock\.repro\.json: is no repro file") as caught:
        load_repro(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", [key for key in KEYS if key != "schema"])
def test_a_missing_key_is_named(file, key):
    data = json.loads(file.read_text())
    del data[key]
    file.write_text(json.dumps(data))
    with pytest.raises(ReproError, match=f"`{key}`"):
        load_repro(file)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"schema": "mshv-async.repro/9"}, r"schema is 'mshv-async\.repro/9', this version reads"),
        ({"seed": "seven"}, r"Expected `int`, got `str` - at `\$\.seed`"),
        ({"decisions": [["thread", 1]]}, r"\$\.decisions\[0\]"),
        ({"decisions": [["thread", "1", 2]]}, r"\$\.decisions\[0\]\[1\]"),
        ({"files": {"a": 1}}, r"\$\.files"),
        ({"steps": {"table": ["a"], "index": [0, 1]}}, r"\$\.steps\.index\[1\] is 1"),
        ({"steps": {"table": ["a"], "index": [-1]}}, r"\$\.steps\.index\[0\] is -1"),
    ],
)
def test_damage_is_told_with_its_place(file, keys, said):
    with pytest.raises(ReproError, match=said) as caught:
        load_repro(edited(file, **keys))
    assert str(file) in str(caught.value)


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_repro_cut_anywhere_is_refused(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "x.repro.json"
    save_repro(path, REPRO)
    whole = path.read_bytes().rstrip()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ReproError, match="repro file"):
        load_repro(path)


def test_an_edited_decision_is_for_replay_to_judge_not_for_loading(file):
    edited(file, decisions=[["thread", 5, 3]])
    assert load_repro(file).decisions == [TapeEntry("thread", 5, 3)]


def test_a_missing_file_is_an_os_error_for_the_command_line_to_tell(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_repro(tmp_path / "none.repro.json")


def test_driver_source_runs_only_when_trusted(file):
    check_trust(REPRO, trust=False)
    carrying = load_repro(edited(file, driver="my.py:Mine", driver_source="class Mine: ..."))
    with pytest.raises(ReproError, match=r"carries driver source \(my\.py:Mine\).*--trust"):
        check_trust(carrying, trust=False, path=file)
    check_trust(carrying, trust=True)


@given(st.lists(st.sampled_from(["vp0 mutex.lock m w", "vp1 step  r", "x"])))
def test_step_lines_are_kept_once_each_and_read_back_in_order(lines):
    table = step_table(lines)
    assert table.lines() == lines
    assert len(set(table.table)) == len(table.table)
