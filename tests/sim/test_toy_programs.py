"""Each detector on a toy with one planted fault, and its silence on the correct form."""

from __future__ import annotations

from functools import partial

import pytest
from playing import (
    CLEAN,
    exhaust,
    explore,
    play_once,
    random_runs,
    replay,
    title_of,
    verdict_of,
    verdicts_of,
)
from toys import TOYS, Gate, philosophers, two_locks

from mshv_async.sim import Bounds, step
from mshv_async.sim.current import instrumented
from mshv_async.sim.digest import digest
from mshv_async.sim.footprints import FootprintChecker
from mshv_async.sim.races import RaceChecker
from mshv_async.sim.strategies import Fifo, Pct, RandomWalk

SMALL = Bounds(progress_steps=100)
#: A thread that runs for ever has no end of schedules, and each is long.
ENDLESS = {"pulse", "retry loop"}


@pytest.mark.parametrize("name", TOYS)
def test_the_planted_fault_is_found(name):
    toy = TOYS[name]
    seen = verdicts_of(toy.make(False), RandomWalk(1), 25 if name in ENDLESS else 100, bounds=SMALL)
    assert seen[toy.verdict] > 0
    assert set(seen) <= {toy.verdict, CLEAN}


@pytest.mark.parametrize("name", TOYS)
def test_the_title_names_the_functions_that_met(name):
    toy = TOYS[name]
    titles = explore(toy.make(False), RandomWalk(2), 20 if name in ENDLESS else 60, bounds=SMALL)
    found = [t for t in titles if t != CLEAN]
    assert found
    assert all(toy.title in t for t in found), found


@pytest.mark.parametrize("name", TOYS)
def test_the_correct_form_stays_silent_over_random_and_pct_schedules(name):
    build = TOYS[name].make(True)
    assert set(explore(build, RandomWalk(3), 300, bounds=SMALL)) == {CLEAN}
    assert set(explore(build, Pct(3), 300, bounds=SMALL)) == {CLEAN}


@pytest.mark.parametrize("name", [n for n in TOYS if n not in ENDLESS])
def test_the_correct_form_stays_silent_over_all_schedules_of_two_preemptions(name):
    assert {v for v, _ in exhaust(TOYS[name].make(True), 2)} == {CLEAN}


@pytest.mark.parametrize("name", [n for n in TOYS if n not in ENDLESS])
def test_two_preemptions_reach_the_planted_fault(name):
    toy = TOYS[name]
    assert toy.verdict in {v for v, _ in exhaust(toy.make(False), 2)}


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("correct", [False, True])
def test_every_execution_replays_to_the_same_steps_and_verdict(name, correct):
    build = TOYS[name].make(correct)
    for rt in random_runs(build, 25, seed=4, bounds=SMALL):
        again = replay(build, rt.tape, bounds=SMALL)
        assert again.departure is None
        assert digest(again) == digest(rt)
        assert (verdict_of(again), title_of(again)) == (verdict_of(rt), title_of(rt))


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("correct", [False, True])
def test_deciding_between_steps_gives_the_same_executions_as_deciding_inside_them(name, correct):
    build = TOYS[name].make(correct)
    inside = random_runs(build, 25, seed=5, bounds=SMALL)
    between = random_runs(build, 25, seed=5, bounds=SMALL, suspended=True)
    assert [digest(rt) for rt in inside] == [digest(rt) for rt in between]
    assert [title_of(rt) for rt in inside] == [title_of(rt) for rt in between]


def what_it_holds(body):
    """Return what a body closes over: the objects of a toy."""
    if isinstance(body, partial):
        return body.args[1:]
    return [cell.cell_contents for cell in body.__closure__ or ()]


def check_steps(build, seed=1):
    """Play one execution under the checkers; return it, the races and the silent changes."""

    def instrumented_build(rt):
        token = instrumented.set(True)
        build(rt)
        instrumented.reset(token)
        rt.roots = lambda: [thing for t in rt.threads for thing in what_it_holds(t.body)]

    races, footprints = RaceChecker(), FootprintChecker()
    rt = play_once(
        instrumented_build,
        RandomWalk(seed),
        bounds=SMALL,
        checkers=(races, footprints),
        suspended=True,
    )
    silent = [str(m) for m in footprints.missing.values()]
    return rt, [str(r) for r in races.races.values()], silent


@pytest.mark.parametrize("name", TOYS)
def test_the_step_checkers_stay_silent_on_the_correct_form(name):
    for seed in range(20):
        rt, races, silent = check_steps(TOYS[name].make(True), seed)
        assert (verdict_of(rt), races, silent) == (CLEAN, [], [])


def test_a_missing_point_between_two_threads_is_a_race():
    async def count(gate, other):
        await step("elsewhere", other)
        gate.count += 1

    def build(rt):
        gate, one, two = Gate("gate"), Gate("one"), Gate("two")
        rt.spawn("one", lambda: count(gate, one))
        rt.spawn("two", lambda: count(gate, two))

    assert any(race.startswith("gate.count: ") for race in check_steps(build)[1])


def test_a_change_that_no_footprint_tells_of_is_found():
    async def hide(gate, other):
        await step("elsewhere", other)
        gate.queue.waiters.append(None)

    def build(rt):
        gate, other = Gate("gate"), Gate("other")
        rt.spawn("one", lambda: hide(gate, other))

    assert check_steps(build)[2] == [
        "gate.queue.waiters changed unreported by one in the step of elsewhere"
    ]


def test_a_deadlock_names_the_circle_and_not_the_bystanders():
    def build(rt):
        two_locks(False)(rt)
        philosophers(True)(rt)

    for rt in random_runs(build, 100):
        if rt.finding is not None:
            assert set(rt.finding.threads) == {"one", "two"}
            assert rt.finding.waits == (
                f"{rt.finding.threads[0]} waits for {rt.finding.threads[1]} "
                f"at mutex.lock {rt.finding.objects[0]}",
                f"{rt.finding.threads[1]} waits for {rt.finding.threads[0]} "
                f"at mutex.lock {rt.finding.objects[1]}",
            )
            return
    pytest.fail("the inversion was never closed")


def test_a_deadlock_is_reported_at_once_though_others_still_run():
    def build(rt):
        two_locks(False)(rt)

        async def busy():
            for _ in range(2_000):
                await step("busy")

        rt.spawn("busy", busy)

    for rt in random_runs(build, 20):
        if rt.finding is not None:
            assert len(rt.trace) < 200
            return
    pytest.fail("the inversion was never closed")


def test_fifo_alone_misses_most_faults():
    found = {
        name for name, toy in TOYS.items() if verdicts_of(toy.make(False), Fifo(), 1)[toy.verdict]
    }
    assert found == {
        "sleep under spinlock",
        "full mailboxes",
        "stranger",
        "last reference",
        "pulse",
    }
