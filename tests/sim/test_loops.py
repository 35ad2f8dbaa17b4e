"""Loops of the fair tail: what is endless, what only looks like it, and who causes it."""

from __future__ import annotations

import pytest
from playing import CLEAN, operation, play_once, replay, verdict_of

from mshv_async.sim import (
    Bounds,
    Completion,
    Mutex,
    cond_resched,
    current,
    liveness,
    sleep_ns,
    step,
)
from mshv_async.sim.digest import digest
from mshv_async.sim.strategies import RandomWalk

BOUND = Bounds(progress_steps=300, page_steps=4, max_steps=50_000)
EQUAL_SPEEDS = Bounds(progress_steps=300, page_steps=4, max_steps=50_000, lockstep=True)
NOT_ENDLESS = "needs no endless adversary"


async def hopeless():
    while True:
        await step("tries")
        await cond_resched()


def loop_steps(rt):
    """The steps of the loop that a finding names, as ``thread.label``."""
    first, end = rt.finding.loop
    return [f"{rt.all_threads[tid].name}.{op.label}" for tid, op in rt.trace[first - 1 : end - 1]]


def told(rt, words):
    """The line of the story that has the words."""
    return next(line for line in rt.finding.story if words in line)


def test_a_state_that_repeats_ends_the_execution_and_names_the_loop():
    rt = play_once(lambda rt: spawn_one(rt, hopeless), bounds=BOUND)
    assert rt.finding.verdict == "livelock"
    assert sorted(loop_steps(rt)) == ["one.cond_resched", "one.tries"]
    assert rt.steps < BOUND.progress_steps + 20
    assert told(rt, "2 steps from").endswith("repeat for ever (one 2): one makes no progress")
    assert rt.finding.story[-1] == NOT_ENDLESS


def spawn_one(rt, body):
    rt.spawn("one", lambda: operation(body()))


def test_a_loop_is_as_long_as_its_longest_way_round_to_the_same_state():
    async def five_kinds_of_tries():
        kind = 0
        while True:
            kind = (kind + 1) % 5
            await step("tries")

    rt = play_once(lambda rt: spawn_one(rt, five_kinds_of_tries), bounds=BOUND)
    assert len(loop_steps(rt)) == 5


def test_a_counter_that_grows_repeats_no_state_and_the_verdict_says_that_it_is_a_bound():
    async def counts():
        tries = 0
        while True:
            tries += 1
            await cond_resched()

    rt = play_once(lambda rt: spawn_one(rt, counts), bounds=BOUND)
    assert rt.finding.verdict == "livelock"
    assert rt.finding.loop is None
    assert rt.steps > 2 * BOUND.progress_steps
    assert told(rt, "a bound: no state repeated in")


def test_a_long_operation_that_ends_is_no_loop():
    async def copies():
        for _ in range(BOUND.progress_steps * 3 // 2):
            await step("copies")

    rt = play_once(lambda rt: spawn_one(rt, copies), bounds=BOUND)
    assert rt.fair
    assert verdict_of(rt) == CLEAN


def test_a_thread_that_progresses_in_every_turn_of_a_loop_is_not_blamed():
    """The state repeats, and everybody runs; but each turn ends an operation."""

    async def works_on():
        liveness.turn_fair(current().rt)
        while current().rt.steps < 2_000:
            await operation(step("works"))

    def build(rt):
        rt.spawn("one", works_on)

    rt = play_once(build, bounds=BOUND)
    assert verdict_of(rt) == CLEAN
    assert rt.steps >= 2_000


def wait_for_a_release(rt):
    """One spins until another, which only has to be let run, has released it."""
    released = [False]

    async def spins():
        liveness.turn_fair(current().rt)
        while not released[0]:
            await cond_resched()

    async def releases():
        await step("releases")
        released[0] = True

    rt.spawn("spins", lambda: operation(spins()))
    rt.spawn("releases", lambda: operation(releases()))


def test_a_loop_in_which_an_enabled_thread_never_ran_is_no_finding_of_the_loop(monkeypatch):
    """It is the scheduler's fault, here one that is made unfair."""
    monkeypatch.setattr(liveness, "round_robin", lambda rt, enabled, cur: enabled[0])
    rt = play_once(wait_for_a_release, bounds=BOUND)
    assert rt.finding.loop is None
    assert told(rt, "a bound: no state repeated")
    monkeypatch.undo()
    assert verdict_of(play_once(wait_for_a_release, bounds=BOUND)) == CLEAN


def test_a_loop_that_a_timer_would_end_is_no_finding():
    """The pending timer can go off: it counts as one that is enabled."""

    def build(rt):
        done = [False]

        async def spins():
            while not done[0]:
                await cond_resched()

        async def late():
            await sleep_ns(1_000)
            done[0] = True

        rt.spawn("spins", lambda: operation(spins()))
        rt.spawn("late", late, daemon=True)

    assert verdict_of(play_once(build, bounds=BOUND)) == CLEAN


def test_a_loop_that_depends_on_the_length_of_turns_is_shown_but_waits_for_the_bound():
    """Two loops side by side: each goes round for ever, in no order that repeats."""

    async def spins():
        while True:
            await step("relaxes")

    def build(rt):
        rt.spawn("one", lambda: operation(spins()))
        rt.spawn("two", lambda: operation(spins()))

    rt = play_once(build, bounds=BOUND)
    assert rt.finding.verdict == "livelock"
    assert set(loop_steps(rt)) == {"one.relaxes", "two.relaxes"}
    assert told(rt, "could fairly repeat for ever")
    assert rt.steps > 2 * BOUND.progress_steps


def disturbed(rt):
    """One wants nothing to change between two of its steps; another changes it all the time."""
    bit = [0]

    async def looks():
        liveness.turn_fair(current().rt)
        await step("lets the other begin")
        while True:
            seen = bit[0]
            await step("looks")
            if bit[0] == seen:
                return

    async def flips():
        while not rt.closing:
            await step("flips")
            bit[0] ^= 1

    rt.spawn("looks", lambda: operation(looks()))
    rt.spawn("flips", flips, forever=True)


def test_at_equal_speeds_a_retry_can_be_disturbed_for_ever_and_the_disturber_is_named():
    rt = play_once(disturbed, bounds=EQUAL_SPEEDS)
    assert (rt.finding.verdict, rt.finding.threads) == ("livelock", ("looks",))
    assert rt.finding.story[-1] == "needs an endless adversary: thread flips, marked forever"
    assert rt.finding.step < rt.steps, "it went on until the adversary had ended"
    assert verdict_of(play_once(disturbed, bounds=BOUND)) == CLEAN, "speeds vary"


def test_a_bystander_that_goes_on_for_ever_is_not_called_an_adversary():
    async def runs():
        while not current().rt.closing:
            await cond_resched()

    def build(rt):
        rt.spawn("one", lambda: operation(hopeless()))
        rt.spawn("bystander", runs, forever=True)

    rt = play_once(build, bounds=EQUAL_SPEEDS)
    assert rt.finding.verdict == "livelock"
    assert {name.partition(".")[0] for name in loop_steps(rt)} == {"one", "bystander"}
    assert rt.finding.story[-1] == NOT_ENDLESS


def test_whoever_waits_for_one_that_loops_is_not_blamed_in_its_place():
    def build(rt):
        mutex = Mutex("m", "M")

        async def holds():
            await mutex.lock()
            await hopeless()

        async def waits():
            await step("comes second")
            await mutex.lock()
            await mutex.unlock()

        rt.spawn("waits", lambda: operation(waits()))
        rt.spawn("holds", lambda: operation(holds()))

    for seed in range(5):
        rt = play_once(build, RandomWalk(seed), bounds=BOUND)
        assert (rt.finding.verdict, rt.finding.threads) == ("livelock", ("holds",))


def test_a_wait_that_nothing_in_the_loop_ends_is_a_deadlock_at_once():
    async def runs():
        while not current().rt.closing:
            await step("runs")

    def build(rt):
        rt.spawn("waits", lambda: operation(Completion("never").wait()))
        rt.spawn("runs", runs, forever=True)

    rt = play_once(build, bounds=BOUND)
    assert (rt.finding.verdict, rt.finding.threads) == ("deadlock", ("waits",))
    assert set(loop_steps(rt)) == {"runs.runs"}


@pytest.mark.parametrize("bounds", [BOUND, EQUAL_SPEEDS], ids=["mixed", "equal"])
@pytest.mark.parametrize("build", [disturbed, wait_for_a_release], ids=["disturbed", "released"])
def test_an_execution_that_was_looked_at_for_loops_replays(build, bounds):
    for seed in range(5):
        rt = play_once(build, RandomWalk(seed), bounds=bounds)
        again = replay(build, rt.tape, bounds=bounds)
        assert digest(again) == digest(rt)
        assert again.finding == rt.finding
