"""`run --schedule` plays again what a search played under that number."""

import json

import pytest

from mshv_async.cli import main
from mshv_async.explore import load_repro
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.numbered import play_numbered
from mshv_async.scenario import Scenario

NAME = "bugs/unmap-during-fault"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("strategy", ["random", "pct", "urw"])
def test_the_schedule_that_a_search_names_is_the_one_that_fails(strategy):
    scenario = Scenario.load(NAME)
    found = explore_sync(scenario, "v6", strategy=strategy, seed=4).findings[0]
    run, repro = play_numbered(scenario, "v6", found.first_schedule, strategy=strategy, seed=4)
    assert run.title == found.finding.title
    assert (repro.digest, repro.decisions) == (found.repro.digest, found.repro.decisions)


def test_a_clean_schedule_is_shown_and_its_repro_and_log_can_be_used(capsys):
    args = ["run", NAME, "--schedule", "1", "--strategy", "random", "--driver", "fix1"]
    assert main([*args, "--repro", "one.repro.json", "--log", "one.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "strategy random  schedule 1" in out
    assert "  mutex.lock " in out, "the columns are what it is played again for"
    assert "repro: one.repro.json" in out
    assert main(["replay", "one.repro.json"]) == 0
    assert "replay: matches the recording" in capsys.readouterr().out
    assert main(["diff", "one.repro.json", "one.jsonl"]) == 0


def test_json_has_the_keys_of_a_run_and_what_was_asked_for(capsys):
    args = ["run", NAME, "--schedule", "2", "--strategy", "random", "--json"]
    main([*args, "--repro", "two.repro.json"])
    data = json.loads(capsys.readouterr().out)
    assert (data["schedule"], data["strategy"], data["virtual_ns"]) == (2, "random", None)
    assert data["digest"] == load_repro(data["repro"]).digest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--schedule", "0"], "--schedule"),
        (["--schedule", "3", "--strategy", "dfs"], "--schedule: strategy dfs needs each execution"),
        (["--schedule", "3", "--strategy", "no"], "strategy: found 'no'"),
        (["--schedule", "3", "--realtime"], "--realtime"),
        (["--repro", "x.repro.json"], "--repro"),
        (["--strategy", "pct"], "--strategy: only a schedule has one; give --schedule N"),
        (["--strategy", "portfolio"], "--strategy: only a schedule has one"),
        (["--schedule", "3", "--repro", "no/x.repro.json"], "no"),
    ],
)
def test_what_is_no_schedule_is_told_in_a_line(capsys, options, said):
    assert main(["run", NAME, *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
