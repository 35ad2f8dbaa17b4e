"""Objects that report from some step on: what they report is what they would have, all along."""

from __future__ import annotations

import pytest

from mshv_async.driver import resolve_driver
from mshv_async.scenario import Scenario
from mshv_async.scenario.world import WorldPlan, build_runtime
from mshv_async.sim import RangeMap, Runtime, run_on_stage
from mshv_async.sim.checkers import NullChecker
from mshv_async.sim.current import instrumented
from mshv_async.sim.faults import Place
from mshv_async.sim.shared import Dormant, Shared, is_freed, poison
from mshv_async.sim.strategies import RandomWalk

# The second one frees a region, and sets objects up while it runs.
SCENARIOS = ["litmus/two-vps-one-reclaimer", "bugs/unmap-during-fault"]


class Recording(RandomWalk):
    """A random walk whose steps are recorded from the one at ``first`` on."""

    records = True

    def __init__(self, seed: int, first: int) -> None:
        super().__init__(seed)
        self._first = first

    def pick(self, enabled, current):
        enabled[0].rt.recorder.skip = self._first
        return super().pick(enabled, current)


def recorded(name: str, seed: int, first: int, checkers=()) -> Runtime:
    plan = WorldPlan.of(Scenario.load(name), resolve_driver("fix1"))
    strategy = Recording(seed, first)
    strategy.begin(0)

    async def act(stage):
        rt = build_runtime(plan, strategy, checkers=checkers, instrument=True)
        await stage.play(rt)
        return rt

    return run_on_stage(act)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_recorded_late_is_what_would_have_been(name, seed):
    whole = recorded(name, seed, 0, checkers=(NullChecker(),))
    assert whole.instruments is True
    for first in (5, 30, len(whole.trace) - 5):
        late = recorded(name, seed, first)
        assert isinstance(late.instruments, Dormant)
        assert late.tape == whole.tape
        assert late.recorder.steps[:first] == [None] * first
        for a, b in zip(late.recorder.steps[first:], whole.recorder.steps[first:], strict=True):
            assert a.accesses == b.accesses
            assert a.guards == b.guards


class Thing(Shared):
    __slots__ = ("value",)


def test_freed_objects_stay_freed_and_later_ones_report_at_once():
    dormant = Dormant()
    token = instrumented.set(dormant)
    plain, gone, held = Thing("plain"), Thing("gone"), RangeMap("map")
    poison(gone, Place("setup", 0, ()))
    assert type(plain) is Thing
    dormant.wake()
    later, more = Thing("later"), RangeMap("more")
    instrumented.reset(token)
    assert type(plain) is type(later) is not Thing
    assert is_freed(gone)
    assert (held._tracked, more._tracked) == (True, True)


def test_an_object_is_known_by_name_unless_several_had_it():
    dormant = Dormant()
    token = instrumented.set(dormant)
    only, _, _ = RangeMap("one"), RangeMap("two"), RangeMap("two")
    dormant.wake()
    RangeMap("two")
    instrumented.reset(token)
    assert dormant.by_name == {"one": only, "two": None}
