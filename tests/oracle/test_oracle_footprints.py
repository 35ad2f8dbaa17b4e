"""What the oracle keeps between steps is state: else a search takes steps for independent that
meet in it, and misses what it would have seen.
"""

from __future__ import annotations

import os

import pytest

from mshv_async.driver import resolve_driver
from mshv_async.explore.catalogue import make_strategy
from mshv_async.oracle import INVARIANTS
from mshv_async.oracle import invariants as all_invariants
from mshv_async.oracle.invariant import Invariant
from mshv_async.scenario import Scenario, list_scenarios
from mshv_async.scenario.world import WorldPlan, build_runtime
from mshv_async.sim import run_on_stage
from mshv_async.sim.accesses import conflict
from mshv_async.sim.footprints import FootprintChecker

LONG = bool(os.environ.get("MSHV_ASYNC_LONG"))
SHIPPED = [entry.name for entry in list_scenarios() if not entry.name.startswith("stress/")]
EXECUTIONS = 6 if LONG else 1
RUNS = [(name, driver) for name in SHIPPED for driver in ("fix1", "v6")]


def played(name, driver, *, executions=1, checkers=lambda: (), records=False, strategy="random"):
    """Play some executions of a scenario whose world reports what is done to it."""
    plan = WorldPlan.of(Scenario.load(name), resolve_driver(driver))
    chooser = make_strategy(strategy, seed=1)
    chooser.records = records
    runs = []

    async def act(stage):
        for number in range(executions):
            chooser.begin(number)
            rt = build_runtime(plan, chooser, checkers=checkers(), instrument=True)
            await stage.play(rt)
            runs.append(rt)

    run_on_stage(act)
    return runs


def unreported(name, driver):
    missing = {}
    for rt in played(name, driver, executions=EXECUTIONS, checkers=lambda: (FootprintChecker(),)):
        (checker,) = rt.checkers
        missing |= checker.missing
    return [str(found) for found in missing.values()]


@pytest.mark.parametrize(("name", "driver"), RUNS)
def test_each_change_of_the_model_and_of_the_oracle_is_reported(name, driver):
    assert unreported(name, driver) == []


def test_no_invariant_can_keep_state_beside_its_slots():
    assert [cls for cls in (*INVARIANTS, all_invariants.GuestKilled) if cls.__dictoffset__] == []


class Secret(Invariant):
    """Remembers what it saw in a list that it changes in place."""

    invariant = "secret"
    __slots__ = ("seen",)

    def __init__(self, world):
        super().__init__(world)
        self.seen = []
        world.rt.watch("slat.change", self.on_slat)

    def on_slat(self, partition, lo, hi):
        self.seen.append(lo)


class Open(Secret):
    """The same, said openly."""

    __slots__ = ()

    def on_slat(self, partition, lo, hi):
        self.seen = [*self.seen, lo]


@pytest.mark.parametrize(("cls", "silent"), [(Secret, False), (Open, True)])
def test_an_invariant_that_keeps_something_in_secret_is_found(monkeypatch, cls, silent):
    monkeypatch.setattr(all_invariants, "INVARIANTS", (*INVARIANTS, cls))
    found = unreported("litmus/one-access", "fix1")
    assert (found == []) is silent
    assert all(line.startswith("secret.seen changed unreported") for line in found)


class Counts(Invariant):
    """Judges by the order of two facts that have no modelled object in common."""

    invariant = "counts"
    __slots__ = ("refused",)

    def __init__(self, world):
        super().__init__(world)
        self.refused = 0
        world.rt.watch("guest.issue", self.on_issue)

    def on_issue(self, *_):
        self.refused += 1


@pytest.mark.parametrize("watched", [True, False])
def test_steps_that_meet_only_in_the_oracle_depend_on_each_other(monkeypatch, watched):
    """The two guests' first accesses are to pages of their own."""
    if watched:
        monkeypatch.setattr(all_invariants, "INVARIANTS", (*INVARIANTS, Counts))
    (rt,) = played("litmus/two-vps-one-reclaimer", "fix1", records=True)
    first = [next(s for s in rt.recorder.steps if name(rt, s) == guest) for guest in GUESTS]
    assert conflict(*first) is watched


GUESTS = ("guest0", "guest1")


def name(rt, step):
    return rt.all_threads[step.tid].name


def test_the_oracle_sees_the_same_where_footprints_are_taken():
    """Watchers that begin late are called from the start there; what they find is the same."""
    for scenario in ("bugs/callback-map-failure", "bugs/deposit-under-pressure"):
        (plain,) = played(scenario, "fix1")
        (recorded,) = played(scenario, "fix1", records=True)
        assert plain.tape == recorded.tape
        titles = [rt.finding.title if rt.finding else "" for rt in (plain, recorded)]
        assert titles[0] == titles[1]


def test_independent_faults_take_the_same_frames_in_either_order():
    """Else searches see two states where there is one, and two orders where none matters."""
    where = set()
    orders = set()
    for rt in played("litmus/two-vps-one-reclaimer", "fix1", executions=12, records=True):
        allocs = [s for s in rt.recorder.steps if s.op.label == "alloc.fault.pfns"]
        orders.add(tuple(name(rt, s) for s in allocs[:2]))
        for one in allocs:
            for other in allocs:
                assert one.tid == other.tid or not conflict(one, other)
        frames = {p for s in rt.recorder.steps for p in s.accesses if p[0] == "host"}
        where |= frames
    assert len(orders) > 1, "both came first"
    assert where <= {("host", "room"), ("host", "reclaimers")}
