"""`diff` on the command line: what it prints, and how it exits."""

import json
import shutil
from pathlib import Path

import pytest

from mshv_async.cli import main
from mshv_async.explore import save_repro
from mshv_async.explore.campaign import explore_sync
from mshv_async.scenario import Scenario


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenario = Scenario.load("bugs/unmap-during-fault")
    for name, seed in (("a", 3), ("b", 5)):
        campaign = explore_sync(scenario, "v6", strategy="random", seed=seed)
        save_repro(f"{name}.repro.json", campaign.findings[0].repro)
    shutil.copy("a.repro.json", "copy.repro.json")


def test_equal_runs_exit_0_and_others_1(capsys):
    assert main(["diff", "a.repro.json", "copy.repro.json"]) == 0
    assert "the same: " in capsys.readouterr().out
    assert main(["diff", "a.repro.json", "b.repro.json"]) == 1
    out = capsys.readouterr().out
    assert "then they differ" in out
    assert "what each thread was doing" in out


def test_a_log_without_dependencies_is_the_same_run_as_the_repro_written_beside_it(capsys):
    found = ["run", "bugs/unmap-during-fault", "--schedule", "4"]
    main([*found, "--repro", "four.repro.json", "--log", "four.jsonl"])
    main(["replay", "four.repro.json", "--log", "replayed.jsonl"])
    capsys.readouterr()
    assert main(["diff", "four.jsonl", "four.repro.json"]) == 0
    assert "the same: " in capsys.readouterr().out
    assert main(["analyze", "four.jsonl", "replayed.jsonl"]) == 0


def test_dependencies_are_not_shown_where_runs_part(capsys):
    assert main(["diff", "a.repro.json", "b.repro.json"]) == 1
    assert "depends" not in capsys.readouterr().out


def test_analyze_shows_of_two_logs_what_diff_shows(capsys):
    for name in "ab":
        main(["replay", f"{name}.repro.json", "--log", f"{name}.jsonl"])
    capsys.readouterr()
    assert main(["diff", "a.jsonl", "b.jsonl"]) == 1
    shown = capsys.readouterr().out
    assert main(["analyze", "a.jsonl", "b.jsonl"]) == 1
    assert capsys.readouterr().out == shown


def test_json_is_one_object(capsys):
    assert main(["diff", "a.repro.json", "b.repro.json", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["same"] is False
    assert data["a"]["file"] == "a.repro.json"
    assert data["a"]["next"][0] != data["b"]["next"][0]
    assert {d["thread"] for d in data["doing"]} >= {"vp0", "vmm"}


@pytest.mark.parametrize(
    ("args", "said"),
    [(["a.repro.json"], "B"), (["a.repro.json", "no.jsonl"], "no.jsonl: No such file")],
)
def test_what_cannot_be_compared_is_told_in_a_line(capsys, args, said):
    assert main(["diff", *args]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("field", [b'"note":"\x98"', b'"note":' + b"[" * 100_000 + b"]" * 100_000])
def test_a_line_whose_unknown_field_cannot_be_read_is_told(capsys, field):
    assert main(["run", "litmus/one-access", "--log", "good.jsonl"]) == 0
    lines = Path("good.jsonl").read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b"}\n", b"," + field + b"}\n")
    Path("bad.jsonl").write_bytes(b"".join(lines))
    capsys.readouterr()
    assert main(["diff", "good.jsonl", "bad.jsonl"]) == 2
    assert capsys.readouterr().err == "mshv-async: bad.jsonl: line 6 is no log event\n"


DRIVER = """\
from mshv_async.driver import V6


class Mine(V6):
    pass
"""


@pytest.mark.parametrize("command", [["diff", "copy.repro.json"], ["likelihood", "--runs", "2"]])
def test_driver_source_of_a_repro_runs_only_when_trusted_and_is_told(capsys, command):
    Path("my.py").write_text(DRIVER)
    main(["explore", "bugs/unmap-during-fault", "--driver", "my.py:Mine", "--out", "out"])
    [repro] = Path("out").glob("1-*.repro.json")
    Path("my.py").unlink()
    capsys.readouterr()
    name, *rest = command
    assert main([name, str(repro), *rest]) == 2
    assert "--trust" in capsys.readouterr().err
    assert main([name, str(repro), *rest, "--trust"]) in (0, 1)
    assert "running the driver source that" in capsys.readouterr().err
