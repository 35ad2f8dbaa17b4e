"""Small scopes: clean where they are sampled, and where every schedule of them is run.

Set MSHV_ASYNC_LONG=1 for two preemptions instead of one with all checks of the model on.
"""

from __future__ import annotations

import os

import pytest

from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.catalogue import STRATEGIES
from mshv_async.explore.checking import ModelChecks
from mshv_async.scenario import Scenario
from mshv_async.scenario.shipped import shipped_paths

LONG = os.environ.get("MSHV_ASYNC_LONG") == "1"

#: Preemptions, and what at least there must be of schedules and states within them.
PREEMPTIONS, SCHEDULES, STATES = (2, 20_000, 1_200) if LONG else (1, 1_500, 800)

#: What looks for other schedules than the first; dpor takes its time.
SEARCHING = [name for name in STRATEGIES if name != "fifo" and (LONG or name != "dpor")]

#: Scenarios of which the suite takes fewer samples: many of a kind, or long executions.
COSTLY = ("teardown/", "bugs/killed-while-host-reclaims", "bugs/discard-far-from-fault")
#: Loops without end come to many states again, and each continuation is as long as the bound: so
#: many of these states for one that is continued twice.
LOOPS = {"bugs/killed-while-host-reclaims": 4, "bugs/discard-far-from-fault": 6}


def test_the_litmus_is_two_pages_two_vps_and_one_reclaim():
    litmus = Scenario.load("litmus/two-vps-one-reclaimer")
    assert [region.size for region in litmus.region] == [2 << 12]
    assert [plan.kind for plan in litmus.threads] == ["vp", "vp", "reclaimer"]


@pytest.mark.parametrize("strategy", ["portfolio", "random"])
def test_the_litmus_is_clean_with_fix1(strategy):
    litmus = Scenario.load("litmus/two-vps-one-reclaimer")
    campaign = explore_sync(litmus, "fix1", strategy=strategy, schedules=1_000 if LONG else 200)
    assert (list(campaign.findings), campaign.warnings, campaign.predicted) == ([], {}, [])


@pytest.mark.parametrize("name", [n for n in shipped_paths() if not n.startswith("stress/")])
def test_the_checks_of_the_model_are_silent_on_samples(name):
    checks = ModelChecks(compare_every=1 if LONG else LOOPS.get(name, 1))
    explore_sync(
        Scenario.load(name),
        "fix1",
        strategy="random",
        schedules=200 if LONG else 3 if name.startswith(COSTLY) else 10,
        keep_going=True,
        checks=checks,
    )
    assert checks.complaints() == []
    assert checks.states > 10
    assert checks.compared > 10 or name not in LOOPS


def test_one_access_against_one_discard_is_exhausted_with_all_checks_silent(capsys):
    checks = ModelChecks()
    campaign = explore_sync(
        Scenario.load("litmus/one-access"),
        "fix1",
        strategy="dfs",
        preemptions=PREEMPTIONS,
        schedules=100_000,
        keep_going=True,
        checks=checks,
    )
    with capsys.disabled():
        print(
            f"\nlitmus/one-access, fix1, at most {PREEMPTIONS} preemptions: "
            f"{campaign.schedules:,} executions, {campaign.steps:,} steps, "
            f"{campaign.states:,} distinct states, {checks.compared:,} continued twice"
        )
    assert checks.complaints() == []
    assert campaign.exhausted
    assert list(campaign.findings) == []
    assert campaign.schedules > SCHEDULES
    assert campaign.states > STATES
    assert checks.compared > STATES // 2


def test_each_state_of_one_access_against_one_discard_is_reached_without_a_bound():
    campaign = explore_sync(
        Scenario.load("litmus/one-access"), "fix1", strategy="stateful", schedules=20_000
    )
    assert campaign.exhausted
    assert list(campaign.findings) == []
    assert campaign.states is not None
    assert campaign.states > 50


@pytest.mark.parametrize("strategy", SEARCHING)
@pytest.mark.parametrize(("driver", "verdict"), [("v6", "lost-unlock"), ("fix1", "invariant:")])
def test_every_strategy_finds_what_a_failed_map_in_the_callback_does(strategy, driver, verdict):
    """A01 and A02: the scenario permits the failure, and says nothing else."""
    campaign = explore_sync(
        Scenario.load("litmus/two-vps-one-map-failure"),
        driver,
        strategy=strategy,
        schedules=1000,
    )
    (found,) = campaign.findings
    assert found.finding.verdict.startswith(verdict)


@pytest.mark.skipif(not LONG, reason="takes minutes")
@pytest.mark.parametrize(("vps", "states"), [("two", 2_000), ("three", 50_000)])
def test_two_or_three_vps_and_a_reclaimer_are_proved_clean(vps, states):
    campaign = explore_sync(
        Scenario.load(f"litmus/{vps}-vps-one-reclaimer"),
        "fix1",
        strategy="stateful",
        schedules=1_000_000,
        proves=True,
    )
    assert campaign.exhausted
    assert list(campaign.findings) == []
    assert campaign.states is not None
    assert states < campaign.states < 3 * states
    assert campaign.proof is not None
    assert campaign.proof.proved


@pytest.mark.parametrize("preemptions", [0, 1] if LONG else [0])
def test_the_searches_over_schedules_and_over_states_find_the_same_bugs(preemptions):
    scenario = Scenario.load("bugs/unmap-during-fault")
    found = [
        {
            f.finding.verdict
            for f in explore_sync(
                scenario,
                "v6",
                strategy=strategy,
                preemptions=preemptions,
                schedules=20_000,
                keep_going=True,
            ).findings
        }
        for strategy in ("dfs", "stateful")
    ]
    assert found[0] == found[1]
    assert found[0]
