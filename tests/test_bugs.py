"""The catalogued bugs: each is found, the change that mends it makes it go away, and the
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
    """A catalogued bug: where it shows, as what, and the drivers that are rid of it.

    ``driver``: the one that shows it first of all, or with ``among`` beside others.
    """

    scenario: str
    title: str
    mended: tuple[str, ...]
    driver: str = "v6"
    among: bool = False

    @property
    def verdict(self) -> str:
        return self.title.partition(": ")[0]


#: fix1's stride alone leaves a rare case of X03.
REPLACED = (
    "v7+aligned-stride+contiguous-stride",
    "v9+aligned-stride+contiguous-stride",
    "fix1+contiguous-stride",
)

#: ``mended`` has the patch on the oldest version that has the bug, then the versions that have the
#: change, or where none has it the patch on the newest.
BUGS = {
    "A01": Bug(
        "bugs/callback-map-failure",
        "lost-unlock: region_interval_invalidate (region.mutex)",
        ("v6+unlock-on-failure", "fix1"),
    ),
    "A02": Bug(
        "bugs/callback-map-failure",
        "invariant:stale-mapping: release / region_interval_invalidate",
        ("v6+unlock-on-failure+retry-no-access", "fix1+retry-no-access"),
        driver="v6+unlock-on-failure",
    ),
    "A07": Bug(
        "bugs/oom-during-fault",
        "oops: region_interval_invalidate (use of an uninitialised value)",
        ("v6+range-before-lock", "fix1"),
    ),
    "A08": Bug(
        "bugs/oom-while-mutex-held",
        "warn: region_interval_invalidate "
        "(region_interval_invalidate: failed to invalidate region)",
        ("fix1+quiet-trylock-failure+quiet-fault-failure",),
        driver="fix1",
        among=True,  # the VP's fault on the dying process warns too (C22)
    ),
    "A09": Bug(
        "bugs/oom-needs-table-page",
        "sleep-in-atomic: hv_call_deposit_pages (alloc.deposit)",
        ("fix1+no-deposit-in-callback",),
        driver="fix1",
    ),
    "A11": Bug(
        "bugs/partial-discard-of-huge-page",
        "invariant:large-page-shape: region_chunk_remap (gfn)",
        REPLACED,
        driver="v7",
        among=True,  # B05
    ),
    "B05": Bug(
        "bugs/partial-discard-of-huge-page",
        "oops: region_process_range (region)",
        REPLACED,
        driver="v7",
        among=True,  # A11
    ),
    "B02": Bug(
        "bugs/hugetlb-beside-small-pages",
        "invariant:large-page-shape: region_remap_pages (host page)",
        ("v6+per-chunk-stride", "v7", "fix1"),
    ),
    "B06": Bug(
        "bugs/misaligned-huge-pages",
        "invariant:large-page-shape: region_chunk_remap (gfn)",
        ("v7+aligned-stride", "v9+aligned-stride", "fix1"),
        driver="v7",
    ),
    "B09": Bug(
        "bugs/gigantic-page",
        "invariant:page-array: region_range_fault",
        ("v9+aligned-stride+huge-order-stride", "fix1+huge-order-stride"),
        driver="fix1",
        among=True,
    ),
    "X03": Bug(
        "bugs/discard-inside-huge-page",
        "invariant:large-page-shape: region_chunk_remap (pages)",
        ("v9+aligned-stride+contiguous-stride", "fix1+contiguous-stride"),
        driver="fix1",
    ),
    "C01": Bug(
        "bugs/write-to-read-only-region",
        "livelock: vp_ioctl_run_vp",
        ("v6+check-access", "fix1"),
    ),
    "C02": Bug(
        "bugs/killed-while-host-reclaims",
        "unkillable: region_hmm_fault_and_lock",
        ("v6+unlock-on-failure+killable-retry", "fix1+killable-retry"),
    ),
    "C03": Bug(
        "bugs/discard-far-from-fault",
        "livelock: region_hmm_fault_and_lock",
        ("v6+range-retry", "fix1+range-retry"),
    ),
    "C06": Bug(
        "bugs/map-failure-in-second-batch",
        "invariant:access-not-absent: hv_call_unmap_gpa_pages",
        ("v6+rollback-to-no-access", "fix1+rollback-to-no-access"),
        among=True,  # the failed fault leaves its pages recorded, too
    ),
    "C22": Bug(
        "bugs/touch-of-unmapped-buffer",
        "warn: region_handle_gfn_fault (region_handle_gfn_fault: GPA intercept failed)",
        ("v6+quiet-fault-failure", "fix1+quiet-fault-failure"),
    ),
    "C23": Bug(
        "bugs/deposit-under-pressure",
        "deadlock: region_interval_invalidate(mutex.lock)",
        ("v6+deposit-outside-mutex", "fix1+deposit-outside-mutex"),
    ),
    "D01": Bug(
        "bugs/unmap-during-fault",
        "use-after-free: region_hmm_fault_and_lock / region_free (region.mni)",
        ("v6+region-refcount", "v7", "fix1"),
        among=True,  # the fault that goes on maps what the unmap ioctl has left
    ),
    "D02": Bug(
        "bugs/unmap-of-another-region",
        "use-after-free: partition_region_by_gfn / region_free (region)",
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
    "D11": Bug(
        "bugs/pinned-map-failure",
        "invariant:atomic-failure: map_user_memory",
        ("fix1+return-map-error",),
    ),
    "D15": Bug(
        "bugs/device-region-unmap",
        "invariant:teardown-clean: region_free",
        ("fix1+unmap-mmio",),
    ),
    "E03": Bug(
        "bugs/partial-batch-failure",
        "invariant:teardown-clean: region_free",
        ("v6+count-before-status", "fix1+count-before-status"),
    ),
    "E05": Bug(
        "bugs/root-pool-empty",
        "invariant:deposit-accounting: hv_call_deposit_pages",
        ("fix1+deposit-by-status",),
        driver="fix1",
    ),
    "G01": Bug(
        "bugs/create-vp-while-running",
        "invariant:kick: intercept_isr",
        ("fix1+publish-before-fd",),
    ),
}

#: What a bug's window needs beyond 200 executions: from v7 on a new region has no page that the
#: callback would map, and only a lock that is initialised while it is held tells (D06).
NARROW = {("bugs/map-while-host-discards", driver): 1_000 for driver in ("v7", "v9", "fix1")}
NARROW |= {("bugs/unmap-while-host-discards", driver): 1_000 for driver in ("v7", "v9", "fix1")}
NARROW["bugs/partial-discard-of-huge-page", "fix1"] = 1_000

#: Each execution runs into the bounds of progress.
ENDLESS = {("bugs/write-to-read-only-region", driver): 5 for driver in ("v6", "v7", "v9")}
ENDLESS |= {
    ("bugs/killed-while-host-reclaims", driver): 40 for driver in ("v6", "v7", "v9", "fix1")
}
ENDLESS |= {
    ("bugs/discard-far-from-fault", driver): 40
    for driver in ("v6", "v7", "v9", "fix1", "fix1+killable-retry")
}


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
def test_the_bug_is_found_within_the_budget(name):
    bug = BUGS[name]
    scenario = Scenario.load(bug.scenario)
    assert name in scenario.bugs
    schedules = 100 if bug.among else BUDGET
    campaign = explore_sync(
        scenario,
        bug.driver,
        strategy="portfolio",
        seed=1,
        schedules=schedules,
        keep_going=bug.among,
    )
    found = [f.finding.title for f in campaign.findings]
    assert (bug.title in found) if bug.among else (found == [bug.title])


#: Judged by the test of mended bugs, with the same budget and more.
GONE = {(bug.scenario, driver) for bug in BUGS.values() for driver in bug.mended}


def mended():
    return [
        pytest.param(name, driver, strategy, id=f"{name}-{driver}-{strategy}")
        for name, bug in BUGS.items()
        for driver in bug.mended
        for strategy in ("portfolio", "random")
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
        # The first is played, not explored; test_teardown.py judges the other.
        if not name.startswith(("stress/", "teardown/"))
        for driver in Scenario.load(name).expect
        if (name, driver) not in GONE
    ]


@pytest.mark.parametrize(("name", "driver"), expectations())
def test_what_a_scenario_expects_of_a_driver_is_what_comes_out(name, driver):
    scenario = Scenario.load(name)
    schedules = NARROW.get((name, driver)) or ENDLESS.get((name, driver)) or 200
    outcome, _ = explored(scenario, driver, "portfolio", schedules)
    assert outcome.as_expected, (outcome.expected, [f.title for f in outcome.findings])
    _, verdicts = explored(scenario, driver, "random", min(schedules, 100 if LONG else 20))
    assert verdicts <= set(outcome.expected)


@pytest.mark.parametrize(
    "name",
    [n for n in shipped_paths() if n.startswith("bugs/") and "v6" not in Scenario.load(n).expect],
)
def test_a_scenario_that_expects_nothing_of_the_default_driver_is_clean_on_it(name):
    assert explored(Scenario.load(name), "v6", "portfolio", 100)[0].as_expected


def test_what_becomes_of_the_default_driver_on_a_region_mapped_again_is_expected():
    scenario = Scenario.load("bugs/map-again-during-fault")
    outcome, verdicts = explored(scenario, "v6", "portfolio", 300)
    assert outcome.as_expected
    assert verdicts == set(outcome.expected)


@pytest.mark.parametrize("name", [n for n in shipped_paths() if n.startswith("bugs/")])
def test_no_scenario_says_how_to_fail(name):
    assert not any(injection.force for injection in Scenario.load(name).inject)
