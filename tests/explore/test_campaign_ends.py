"""However a campaign ends, what it had found by then is not lost, and not believed unchecked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from mshv_async.driver import V6, DriverSpec
from mshv_async.explore import finishing
from mshv_async.explore.campaign import Stop, explore_sync
from mshv_async.explore.results import RuntimeDefect
from mshv_async.scenario import Scenario
from mshv_async.sim.strategies import Fifo

if TYPE_CHECKING:
    from mshv_async.explore.playing import Subject
    from mshv_async.sim import Runtime, Stage, Tape
    from mshv_async.sim.checkers import StepChecker

UNMAP = Scenario.load("bugs/unmap-during-fault")


def test_a_finding_that_does_not_replay_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    async def replay_otherwise(
        tape: Tape, subject: Subject, stage: Stage, seed: int, *checkers: StepChecker
    ) -> Runtime:
        return await subject.play(stage, Fifo(), seed=seed, keep=True, checkers=checkers)

    monkeypatch.setattr(finishing, "replay_tape", replay_otherwise)
    campaign = explore_sync(UNMAP, "v6", schedules=200)
    assert isinstance(campaign.error, RuntimeDefect)
    assert "found 'invariant:teardown-clean: region_free', but its tape" in str(campaign.error)
    assert "replays to 'clean': departs at step " in str(campaign.error)
    assert list(campaign.findings) == []


def test_an_error_in_a_later_execution_keeps_the_findings_before_it() -> None:
    class Tires(V6):
        async def partition_destroy_region(self, region: Any) -> None:
            if campaigns[-1] > 30:
                campaigns.append(0)
                raise ZeroDivisionError
            await super().partition_destroy_region(region)

    campaigns = [0]
    campaign = explore_sync(
        UNMAP,
        DriverSpec("Tires", Tires, "v6"),
        schedules=200,
        keep_going=True,
        progress=lambda done, *_: campaigns.append(done),
    )
    assert isinstance(campaign.error, ZeroDivisionError)
    assert campaign.schedules > 30
    assert "use-after-free" in {found.finding.verdict for found in campaign.findings}


def test_an_error_in_the_first_execution_is_the_callers() -> None:
    class Breaks(V6):
        async def handle_gpa_intercept(self, vp: Any) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        explore_sync(UNMAP, DriverSpec("Breaks", Breaks, "v6"), schedules=5)


def test_another_thread_can_stop_a_campaign() -> None:
    stop = Stop()
    timer = threading.Timer(0.3, stop)
    timer.start()
    campaign = explore_sync(UNMAP, "fix1", schedules=10_000_000, stop=stop)
    timer.join()
    assert campaign.interrupted
    assert campaign.schedules > 0
