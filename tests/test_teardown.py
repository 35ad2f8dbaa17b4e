"""Every order in which VP, partition and address space can go leaves nothing behind (spec.md 7.3).

The names of the scenarios say the order. Each is exhausted, by schedules within a bound and by
states without one, with fix1 and a named patch for each defect of it that the order shows.

Set MSHV_ASYNC_LONG=1 for two preemptions where that ends, all states, and more samples.
"""

from __future__ import annotations

import os

import pytest

from mshv_async.explore.campaign import explore_sync
from mshv_async.scenario import Scenario
from mshv_async.scenario.shipped import shipped_paths

LONG = os.environ.get("MSHV_ASYNC_LONG") == "1"
PREFIX = "teardown/"
ORDERS = [name.removeprefix(PREFIX) for name in shipped_paths() if name.startswith(PREFIX)]
SAMPLES = {"portfolio": 1_000, "random": 1_000} if LONG else {"portfolio": 6, "random": 3}

QUIET = "+quiet-fault-failure"  # a fault on memory that was unmapped warns (C22)
UNMAP_FIRST = "+unmap-before-notifier-removal"  # pages freed in between are still mapped (X01)
REGIONS_FIRST = "+regions-before-finalize" + UNMAP_FIRST  # a callback after FINALIZE fails (A02)
USER_OF_MM = "+mmget-in-fault"  # a fault behind exit's sweep maps pages for good (C17)

PATCHES = {
    "munmap-mm-partition-vp": QUIET,
    "munmap-partition-vp": QUIET,
    "munmap-unmap-vp-partition": QUIET,
    "partition-vp-munmap": QUIET + REGIONS_FIRST,
    "vp-partition-beside-munmap": QUIET + REGIONS_FIRST,
    "unmap-beside-munmap": QUIET + UNMAP_FIRST,
    "unmap-munmap-vp-partition": QUIET + UNMAP_FIRST,
    "other-process/mm-partition-kill": USER_OF_MM + QUIET,
    "other-process/mm-partition-vp": USER_OF_MM + QUIET,
    "other-process/partition-mm-vp": USER_OF_MM + QUIET,
    "other-process/vp-beside-mm": USER_OF_MM + QUIET + REGIONS_FIRST,
}

#: VP, partition and mm in each order: what the root scheduler runs is small.
CLOSINGS = [
    "mm-partition-vp",
    "mm-vp-partition",
    "partition-mm-vp",
    "partition-vp-mm",
    "vp-mm-partition",
    "vp-partition-mm",
]
BLOCKED = [f"blocked/{name}" for name in CLOSINGS]
UNMAPS = [name for name in ORDERS if name.startswith(("unmap-", "munmap-"))]
BESIDE = [name for name in ORDERS if "-beside-" in name]

#: In which two preemptions end (long); in the suite one for the smallest, none for the others.
TWO = [*CLOSINGS, *BLOCKED, *(name for name in UNMAPS if name not in BESIDE)]
#: Whose switches at waits alone are too many for the suite.
ONLY_LONG = [*BESIDE, *(name for name in ORDERS if name.startswith("hypervisor-scheduler/"))]
#: Whose states without any bound the suite visits.
SMALL = [
    *CLOSINGS,
    *(f"hypervisor-scheduler/{name}" for name in CLOSINGS),
    *BLOCKED,
    "sleeping-mm-partition-vp",
]


def mended(name):
    return f"fix1{PATCHES.get(name, '')}"


def exhaust(name, strategy, preemptions):
    """Return the campaign; it ended, and neither finding nor warning came."""
    campaign = explore_sync(
        Scenario.load(PREFIX + name),
        mended(name),
        strategy=strategy,
        preemptions=preemptions,
        schedules=1_000_000,
        keep_going=True,
    )
    found = [f.finding.title for f in campaign.findings]
    assert (found, campaign.warnings, [*campaign.predicted]) == ([], {}, [])
    assert campaign.exhausted
    return campaign


def preemptions(name):
    if LONG:
        return 2 if name in TWO else 0
    return 1 if name in CLOSINGS else 0


def test_each_order_of_the_three_is_there_in_each_state_of_a_vp():
    for folder in ("", "blocked/", "hypervisor-scheduler/"):
        assert {folder + name for name in CLOSINGS} <= set(ORDERS)
    assert {name for name in ORDERS if name.startswith("other-process/")}


@pytest.mark.parametrize("name", [n for n in ORDERS if LONG or n not in ONLY_LONG])
def test_every_schedule_within_the_bound_leaves_nothing(name, capsys):
    bound = preemptions(name)
    campaign = exhaust(name, "dfs", bound)
    with capsys.disabled():
        print(f"\n{PREFIX}{name}, {mended(name)}: {bound} preemptions, {campaign.schedules:,}")
    assert campaign.schedules > 10


@pytest.mark.parametrize("name", ORDERS if LONG else SMALL)
def test_every_state_without_a_bound_leaves_nothing(name):
    campaign = exhaust(name, "stateful", None)
    assert campaign.states > 50


#: What each patch is for: the same stack without it shows this.
DEFECTS = [
    ("unmap-munmap-vp-partition", f"fix1{QUIET}", "invariant:stale-mapping: release"),
    ("unmap-beside-munmap", f"fix1{QUIET}", "invariant:stale-mapping: release"),
    (
        "partition-vp-munmap",
        f"fix1{QUIET}{UNMAP_FIRST}",
        "invariant:stale-mapping: release / region_interval_invalidate",
    ),
    (
        "partition-vp-munmap",
        f"fix1{QUIET}+regions-before-finalize",
        "invariant:stale-mapping: release",
    ),
    ("other-process/mm-partition-vp", f"fix1{QUIET}", "(mapped after exit)"),
]


@pytest.mark.parametrize(("name", "driver", "what"), DEFECTS)
def test_without_its_patch_each_defect_shows(name, driver, what):
    campaign = explore_sync(
        Scenario.load(PREFIX + name),
        driver,
        strategy="stateful",
        preemptions=1,
        schedules=20_000,
    )
    assert [f.finding.title.endswith(what) for f in campaign.findings] == [True]


@pytest.mark.parametrize("name", [n for n, p in PATCHES.items() if p == QUIET])
def test_without_its_patch_a_fault_on_unmapped_memory_warns(name):
    campaign = explore_sync(Scenario.load(PREFIX + name), "fix1", strategy="random", schedules=20)
    assert list(campaign.warnings) == ["region_handle_gfn_fault: GPA intercept failed"]


@pytest.mark.parametrize("driver", ["v6", "v7", "v9", "fix1"])
@pytest.mark.parametrize("name", ORDERS)
def test_no_order_shows_more_than_is_expected_of_a_version(name, driver):
    scenario = Scenario.load(PREFIX + name)
    for strategy, schedules in SAMPLES.items():
        campaign = explore_sync(
            scenario, driver, strategy=strategy, schedules=schedules, keep_going=True
        )
        verdicts = {f.finding.verdict for f in campaign.findings}
        assert verdicts <= set(scenario.expected(driver)) - {"clean"}
        assert [*campaign.predicted] == []


@pytest.mark.parametrize("name", ORDERS)
def test_the_patches_are_those_that_the_scenario_names(name):
    scenario = Scenario.load(PREFIX + name)
    assert scenario.expected(mended(name)) == ("clean",)
    if scenario.expected("fix1") != ("clean",):
        assert mended(name) in scenario.expect
