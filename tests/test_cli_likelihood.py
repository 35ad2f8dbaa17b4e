"""`likelihood` on the command line: what it prints, and how it exits."""

import json
from pathlib import Path

import msgspec
import pytest

from mshv_async.cli import main
from mshv_async.explore import load_repro, save_repro
from mshv_async.explore.campaign import Stop, explore_sync
from mshv_async.explore.repro import StepTable
from mshv_async.scenario import Scenario


@pytest.fixture(autouse=True)
def found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenario = Scenario.load("bugs/unmap-during-fault")
    campaign = explore_sync(scenario, "v6", strategy="random", seed=3)
    save_repro("it.repro.json", campaign.findings[0].repro)


def test_it_prints_the_plot_the_decision_and_the_steps_around_it(capsys):
    assert main(["likelihood", "it.repro.json", "--runs", "12"]) == 0
    out = capsys.readouterr().out
    assert "decided at step" in out
    assert "passed over: " in out
    assert max(len(line) for line in out.splitlines() if "#" in line) == 100


def test_json_is_one_object_with_a_point_for_each_row(capsys):
    assert main(["likelihood", "it.repro.json", "--runs", "5", "--points", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["points"][-1]["same"]["failed"] == 5
    assert data["jump"]["decision"]["taken"]["thread"]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"verdict": "clean", "title": ""}, 2, "clean"),
        ({"digest": "0" * 64}, 1, "departs at step"),
        ({"digest": "0" * 64, "package_version": "0.0.7"}, 1, "version 0.0.7 wrote it, this is "),
        ({"steps": StepTable(["vp9 thread.start  w"], [0])}, 1, "recorded 'vp9 thread.start w', "),
        (
            {"scenario": "summary ="},
            2,
            "bad.repro.json: bugs/unmap-during-fault: end of file: found",
        ),
        ({"driver": "v66"}, 2, "bad.repro.json: unknown driver 'v66'"),
        ({"driver": "my.py:Mine", "driver_source": "x"}, 2, "--trust"),
    ],
    ids=["clean", "departs", "of-a-version", "of-steps", "scenario", "driver", "driver-source"],
)
def test_a_repro_that_it_cannot_use_is_told_in_a_line(capsys, change, status, said):
    repro = load_repro("it.repro.json")
    save_repro("bad.repro.json", msgspec.structs.replace(repro, **change))
    for command in (["likelihood", "bad.repro.json"], ["diff", "bad.repro.json", "it.repro.json"]):
        if command[0] == "diff" and said == "clean":
            continue  # a clean run can be compared
        assert main(command) == status
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("options", [["--runs", "0"], ["--points", "1"], ["--seed", "-1"]])
def test_sizes_out_of_range_are_refused(capsys, options):
    assert main(["likelihood", "it.repro.json", *options]) == 2
    assert options[0] in capsys.readouterr().err


def test_a_file_that_is_missing_is_told_in_a_line(capsys):
    assert main(["likelihood", "no.repro.json"]) == 2
    assert "no.repro.json" in capsys.readouterr().err
    assert not Path("no.repro.json").exists()


def test_interrupted_it_shows_what_it_has_and_exits_130(capsys, monkeypatch):
    monkeypatch.setattr(Stop, "asked", True)
    assert main(["likelihood", "it.repro.json"]) == 130
    out, err = capsys.readouterr()
    assert "interrupted before the first point was measured" in out
    assert err == "mshv-async: interrupted\n"


def test_the_original_of_a_shrunk_finding_can_be_measured(capsys):
    main(
        ["explore", "bugs/oom-during-fault", "--strategy", "random", "--seed", "5", "--out", "out"]
    )
    [shrunk] = Path("out").glob("1-*.repro.json")
    steps = []
    for option in ([], ["--original"]):
        capsys.readouterr()
        main(["likelihood", str(shrunk), "--runs", "3", "--json", *option])
        steps.append(json.loads(capsys.readouterr().out)["steps"])
    assert steps[0] < steps[1]
