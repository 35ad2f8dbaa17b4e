"""The catalogued bugs: v6 shows each, the change that mends it makes it go away, and the
scenarios' own expectations are what really comes out.

Set MSHV_ASYNC_LONG=1 for 5,000 executions of each strategy instead of 200.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest

from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.outcome import campaign_outcome
from mshv_async.scenario import Scenario
from mshv_async.scenario.shipped import shipped_paths

LONG = os.environ.get("MSHV_ASYNC_LONG") == "1"
EXECUTIONS = 5_000 if LONG else 200
BUDGET = 2_000


class Bug(NamedTuple):
    """A catalogued bug: where it shows, what v6 comes to, and the drivers that are rid of it."""

    scenario: str
    title: str
    mended: tuple[str, ...]

    @property
    def verdict(self) -> str:
        return self.title.rpartition(": ")[0]


#: ``mended`` has the patch on v6, then the versions that have the change, or where none has it the
#: patch on the newest.
BUGS = {
    "A01": Bug(
        "bugs/callback-map-failure",
        "lost-unlock: region_interval_invalidate (region.mutex)",
        ("v6+unlock-on-failure", "fix1"),
    ),
    "A07": Bug(
        "bugs/oom-during-fault",
        "oops: region_interval_invalidate (use of an uninitialised value)",
        ("v6+range-before-lock", "fix1"),
    ),
    "C01": Bug(
        "bugs/write-to-read-only-region",
        "livelock: vp_ioctl_run_vp",
        ("v6+check-access", "fix1"),
    ),
    "D01": Bug(
        "bugs/unmap-during-fault",
        "use-after-free: region_hmm_fault_and_lock / region_free (region.mni)",
        ("v6+region-refcount", "v7", "fix1"),
    ),
    "D05": Bug(
        "bugs/map-during-touch",
        "guest-killed: vp_ioctl_run_vp",
        ("v6+list-before-map", "fix1+list-before-map"),
    ),
    "D06": Bug(
        "bugs/map-while-host-discards",
        "oops: region_remap_pages (region)",
        ("v6+init-before-insert", "fix1+init-before-insert"),
    ),
    "D07": Bug(
        "bugs/map-failure-then-discard",
        "use-after-free: invalidate_range_start / region_free (region.mni)",
        ("v6+put-on-map-error", "fix1"),
    ),
    "D08": Bug(
        "bugs/map-enclosing-region",
        "invariant:region-ownership: map_user_memory",
        ("v6+interval-overlap", "v9", "fix1"),
    ),
}

#: What a bug's window needs beyond 200 executions: from v7 on a new region has no page that the
#: callback would map, and only a lock that is initialised while it is held tells (D06).
NARROW = {("bugs/map-while-host-discards", driver): 1_000 for driver in ("v7", "v9", "fix1")}

#: Each execution runs into the bounds of progress.
ENDLESS = {("bugs/write-to-read-only-region", driver): 5 for driver in ("v6", "v7", "v9")}


def explored(scenario, driver, strategy, schedules):
    """Explore the whole budget and return (outcome, verdicts)."""
    campaign = explore_sync(
        scenario, driver, strategy=strategy, schedules=schedules, seed=1, keep_going=True
    )
    outcome = campaign_outcome(
        campaign,
        scenario=scenario.name,
        driver=driver,
        strategy=strategy,
        seed=1,
        expected=scenario.expected(driver),
    )
    return outcome, {found.verdict for found in outcome.findings}


@pytest.mark.parametrize("name", BUGS)
def test_v6_shows_the_bug_first_of_all_within_the_budget(name):
    bug = BUGS[name]
    scenario = Scenario.load(bug.scenario)
    assert name in scenario.bugs
    campaign = explore_sync(scenario, "v6", strategy="pct", seed=1, schedules=BUDGET)
    found = [f.finding.title for f in campaign.findings]
    assert found == [bug.title]


#: Judged by the test of mended bugs, with the same budget and more.
GONE = {(bug.scenario, driver) for bug in BUGS.values() for driver in bug.mended}


def mended():
    return [
        pytest.param(name, driver, strategy, id=f"{name}-{driver}-{strategy}")
        for name, bug in BUGS.items()
        for driver in bug.mended
        for strategy in ("pct", "random")
    ]


@pytest.mark.parametrize(("name", "driver", "strategy"), mended())
def test_the_bug_is_gone_with_its_patch_and_in_the_version_that_has_it(name, driver, strategy):
    bug = BUGS[name]
    scenario = Scenario.load(bug.scenario)
    outcome, verdicts = explored(scenario, driver, strategy, EXECUTIONS)
    assert outcome.schedules == EXECUTIONS
    assert bug.verdict not in verdicts
    assert verdicts <= set(outcome.expected)
    assert outcome.as_expected or strategy == "random"


def expectations():
    return [
        pytest.param(name, driver, id=f"{name}-{driver}")
        for name in shipped_paths()
        if not name.startswith("stress/")  # is played, not explored
        for driver in Scenario.load(name).expect
        if (name, driver) not in GONE
    ]


@pytest.mark.parametrize(("name", "driver"), expectations())
def test_what_a_scenario_expects_of_a_driver_is_what_comes_out(name, driver):
    scenario = Scenario.load(name)
    schedules = NARROW.get((name, driver)) or ENDLESS.get((name, driver)) or 200
    outcome, _ = explored(scenario, driver, "pct", schedules)
    assert outcome.as_expected, (outcome.expected, [f.title for f in outcome.findings])
    _, verdicts = explored(scenario, driver, "random", min(schedules, 100))
    assert verdicts <= set(outcome.expected)


@pytest.mark.parametrize("name", [n for n in shipped_paths() if n.startswith("bugs/")])
def test_no_scenario_says_how_to_fail(name):
    assert not any(injection.force for injection in Scenario.load(name).inject)
