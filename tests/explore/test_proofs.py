"""What an exhausted search says: proved, within which bounds, and only if the model is sound."""

from __future__ import annotations

import json

import pytest

from mshv_async.cli import main
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.checking import ModelChecks
from mshv_async.explore.drivers import driver_spec
from mshv_async.explore.playing import Subject
from mshv_async.explore.proving import prove
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage

SMALL = "litmus/one-access"


@pytest.mark.parametrize("strategy", ["stateful", "dpor"])
def test_a_small_scope_is_proved_and_the_statement_names_it(strategy):
    campaign = explore_sync(
        Scenario.load(SMALL), "fix1", strategy=strategy, schedules=20_000, proves=True
    )
    proof = campaign.proof
    assert campaign.exhausted
    assert proof is not None
    assert proof.proved
    assert proof.statement == "no schedule of this scope comes to a finding, and every one ends"
    assert proof.scope == [
        "vp0: write 0x200",
        "host: madvise dontneed 0x200 1",
        "region at gfn 0x200, 1 page",
    ]
    assert proof.bounds[:2] == ["any number of preemptions", "no failures"]


def test_a_bound_on_preemptions_and_permitted_failures_are_named():
    scenario = Scenario.parse(
        Scenario.load(SMALL).text
        + '\n[[inject]]\nat = "alloc.anon"\nerrno = "ENOMEM"\nwithin = "region_range_fault"\n'
    )
    campaign = explore_sync(
        scenario, "fix1", strategy="dfs", preemptions=0, schedules=2_000, proves=True
    )
    assert campaign.proof is not None
    assert campaign.proof.bounds[:2] == [
        "at most 0 preemptions in a schedule",
        "failures: alloc.anon ENOMEM within region_range_fault, at any call, "
        "once for each thread and call site",
    ]


def test_what_the_checks_complain_of_takes_the_word_back():
    checks = ModelChecks()
    checks.unreported["region.pages", "step"] = "region.pages changed unreported by vp0"
    subject = Subject(Scenario.load(SMALL), driver_spec("fix1"))

    async def act(stage):
        return await prove(
            subject, stage, preemptions=None, cycles=False, second_phase=False, checks=checks
        )

    proof = run_on_stage(act)
    assert not proof.proved
    assert proof.complaints == ["region.pages changed unreported by vp0"]


@pytest.mark.parametrize("budget", [20, 20_000])
def test_explore_says_proved_only_when_nothing_is_left(budget, tmp_path, capsys):
    command = ["explore", SMALL, "--driver", "fix1", "--strategy", "stateful", "--out"]
    assert main([*command, str(tmp_path), "--schedules", str(budget)]) == 0
    assert ("\nproved: " in capsys.readouterr().out) is (budget > 20)
    said = json.loads((tmp_path / "outcome.json").read_text())
    assert said["exhausted"] is (budget > 20)
    assert (said["proof"] is not None) is (budget > 20)


def test_a_search_that_found_something_has_proved_nothing():
    scenario = Scenario.load("bugs/map-during-touch")
    campaign = explore_sync(scenario, "v6", strategy="stateful", schedules=3_000, proves=True)
    assert campaign.findings
    assert campaign.proof is None
