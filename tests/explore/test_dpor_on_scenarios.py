"""dpor on scenarios: it comes to an end where dfs would not, with all that samples come to.

Set MSHV_ASYNC_LONG=1 for litmus/one-access as well.
"""

from __future__ import annotations

import os

import pytest

from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.catalogue import StrategyError
from mshv_async.scenario import Scenario

LONG = os.environ.get("MSHV_ASYNC_LONG") == "1"


def campaign(name, driver, strategy, schedules):
    return explore_sync(
        Scenario.load(name),
        driver,
        strategy=strategy,
        schedules=schedules,
        keep_going=True,
        shrink=False,
    )


@pytest.mark.parametrize(
    ("name", "driver", "schedules"),
    [
        ("bugs/create-vp-while-running", "v6", 98),
        ("bugs/deposit-under-pressure", "fix1", 2),
        ("bugs/map-failure-then-discard", "v6", 3),
        ("bugs/device-region-unmap", "v6", 10),
    ],
)
def test_it_ends_and_finds_what_samples_find(name, driver, schedules):
    found = campaign(name, driver, "dpor", 1_000)
    assert found.exhausted
    # About so many: what the model touches may come to be told apart better.
    assert found.schedules <= 2 * schedules
    sampled = campaign(name, driver, "pos", 60)
    titles = {f.finding.title for f in found.findings}
    assert titles
    assert titles >= {f.finding.title for f in sampled.findings}


def test_a_finding_of_one_schedule_in_a_hundred_is_found():
    # 2 of 98 traces; of 2,000 random schedules none.
    found = campaign("bugs/create-vp-while-running", "v6", "dpor", 1_000)
    assert [f.finding.verdict for f in found.findings] == ["invariant:kick"]


@pytest.mark.parametrize("driver", ["v6", "fix1"])
@pytest.mark.skipif(not LONG, reason="MSHV_ASYNC_LONG is not set")
def test_one_access_against_one_discard_is_proved_without_a_bound(driver):
    found = campaign("litmus/one-access", driver, "dpor", 5_000)
    assert found.exhausted
    assert found.findings == []


def test_a_bound_on_preemptions_is_refused():
    with pytest.raises(StrategyError, match="dpor has no such bound"):
        explore_sync(
            Scenario.load("litmus/one-access"), strategy="dpor", driver="v6", preemptions=1
        )
