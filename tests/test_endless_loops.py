"""C01, C02 and C03 are loops that can go on for ever: which, what they need, what ends them.

Set MSHV_ASYNC_LONG=1 to exhaust the second phase of C03's scenario as well (two minutes).
"""

from __future__ import annotations

import os

import pytest

from mshv_async.explore.campaign import explore_sync
from mshv_async.log.record import StepRecord
from mshv_async.scenario import Scenario

C01 = "bugs/write-to-read-only-region"
C02 = "bugs/killed-while-host-reclaims"
C03 = "bugs/discard-far-from-fault"
LONG = os.environ.get("MSHV_ASYNC_LONG") == "1"


def explored(name, driver, strategy="portfolio", schedules=300, **options):
    return explore_sync(
        Scenario.load(name), driver, strategy=strategy, schedules=schedules, **options
    )


@pytest.mark.parametrize(
    ("name", "driver", "threads", "needs"),
    [
        (C01, "v6", {"vp0", "guest0", "lp-vp0"}, "needs no endless adversary"),
        (
            C02,
            "fix1",
            {"vp0", "reclaimer"},
            "needs an endless adversary: thread reclaimer, marked forever",
        ),
        (C03, "fix1", {"vp0", "host"}, "needs an endless adversary: thread host, marked forever"),
    ],
    ids=["C01", "C02", "C03"],
)
def test_the_loop_is_found_and_says_whom_it_needs(name, driver, threads, needs):
    campaign = explored(name, driver)
    (found,) = campaign.findings
    first, end = found.finding.loop
    assert found.repro.loop == (first, end)
    steps = [r for r in found.records if isinstance(r, StepRecord)]
    turn = [(s.actor, s.label) for s in steps[first - 1 : end - 1]]
    again = [(s.actor, s.label) for s in steps[end - 1 : 2 * end - first - 1]]
    assert turn == again, "it was seen to repeat"
    assert {actor for actor, _ in turn} == threads
    assert found.finding.story[-1] == needs


@pytest.mark.parametrize("name", [C01, C02, C03], ids=["C01", "C02", "C03"])
@pytest.mark.parametrize("strategy", ["portfolio", "starve"])
def test_once_interference_ends_the_fixed_driver_makes_progress(name, strategy):
    campaign = explored(name, "fix1", f"{strategy}+two-phase", 100, keep_going=True)
    assert campaign.schedules == 100
    assert campaign.findings == []


def test_a_loop_of_the_drivers_own_making_is_found_in_the_second_phase():
    (found,) = explored(C01, "v6", "portfolio+two-phase").findings
    assert found.finding.title == "livelock: vp_ioctl_run_vp"
    assert any("in the second phase" in line for line in found.finding.story)


EXHAUSTED = [C01, C03] if LONG else [C01]


@pytest.mark.parametrize("name", EXHAUSTED)
def test_from_every_state_the_fixed_driver_makes_progress_once_interference_ends(name):
    campaign = explored(name, "fix1", "stateful+two-phase", 1_000_000, keep_going=True)
    assert campaign.exhausted
    assert campaign.findings == []
