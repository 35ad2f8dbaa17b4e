"""C01, C02 and C03 are loops that can go on for ever: which, what they need, what ends them.

Set MSHV_ASYNC_LONG=1 to exhaust the second phase of C03's scenario as well (two minutes).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import mshv_async
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.catalogue import TWO_PHASE
from mshv_async.explore.drivers import driver_spec
from mshv_async.explore.playing import Subject
from mshv_async.log.record import StepRecord
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage
from mshv_async.sim.liveness import SETTLE
from mshv_async.sim.statekey import state_key
from mshv_async.sim.strategies import Dfs
from mshv_async.sim.thread import START
from mshv_async.sim.verdicts import adversary

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


EXHAUSTED = [C01, C02, C03] if LONG else [C01]


@pytest.mark.parametrize("name", EXHAUSTED)
def test_from_every_state_the_fixed_driver_makes_progress_once_interference_ends(name):
    campaign = explored(name, "fix1", "stateful+two-phase", 1_000_000, keep_going=True)
    assert campaign.exhausted
    assert campaign.findings == []


class StrictPriority(Dfs):
    """Every state of one processor on which the VP's threads go first from their start on."""

    suspended = True
    first = ("vp0", "guest0", "lp-vp0")

    def __init__(self):
        super().__init__()
        self.seen = set()

    def pick(self, enabled, current):
        rt = enabled[0].rt
        if not self.repeating:
            key = state_key(rt, rt.roots(), rt.opaque, current=False)
            if key in self.seen:
                return -1
            self.seen.add(key)
        first = [t for t in enabled if t.name in self.first and t.op is not START]
        eligible = first or list(enabled)
        if len(eligible) == 1:
            return enabled.index(eligible[0])
        index = super().pick(eligible, current if current in eligible else None)
        return enabled.index(eligible[index])


def test_a_real_time_vp_alone_on_a_processor_with_the_invalidator_does_not_spin():
    """C05 needs more: who never runs opens no bracket, and an open one makes the VP sleep."""
    subject = Subject(Scenario.load(C03), driver_spec("fix1"))
    strategy = StrictPriority()
    rounds = []

    async def act(stage):
        while strategy.begin(len(rounds)):
            rt = await subject.play(stage, strategy)
            assert rt.finding is None
            assert not rt.fair
            begun = sum(
                op.label == "notifier.read_begin" and rt.all_threads[tid].name == "vp0"
                for tid, op in rt.trace
            )
            rounds.append(begun)

    run_on_stage(act)
    assert strategy.exhausted
    assert len(rounds) > 1
    assert max(rounds) == 2, "the one fault, and one more try"


def test_the_page_on_progress_words_it_as_findings_do():
    page = (Path(mshv_async.__file__).parent / "reference" / "progress.md").read_text()
    (found,) = explored(C03, "fix1").findings
    assert " on repeat for ever (" in found.finding.story[-2]
    words = (
        " on repeat for ever (",
        "could fairly repeat for ever",
        "a bound: no state repeated in",
        "in the second phase: from step ",
        adversary(("reclaimer",)),
        adversary(()),
        f"`{SETTLE}`",
        f"stateful{TWO_PHASE}",
    )
    assert [word for word in words if word not in page] == []
    assert all(name in page for name in (C01, C02, C03))
