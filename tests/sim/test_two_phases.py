"""Two phases: when failures and interference have ended, what is under way has to end."""

from __future__ import annotations

import pytest
from playing import CLEAN, operation, play_each, play_once, replay, verdict_of

from mshv_async.explore.catalogue import StrategyError, make_strategy
from mshv_async.sim import Bounds, Completion, Injection, cond_resched, current, injected, step
from mshv_async.sim.digest import digest
from mshv_async.sim.liveness import SETTLE
from mshv_async.sim.strategies import RandomWalk, SettlingDfs, SettlingStates, TwoPhase

BOUND = Bounds(progress_steps=100, page_steps=4, max_steps=20_000, lockstep=True)


def disturbed(rt):
    """A retry that a thread which goes on for ever can disturb for ever."""
    bit = [0]

    async def looks():
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


def helped(rt):
    """A wait that a thread which goes on for ever would end, if it went on."""
    done = Completion("done")

    async def helps():
        while not rt.closing:
            await step("helps")
            await step("helps more")
            if not done.done and not rt.closing:
                await done.complete()

    rt.spawn("waits", lambda: operation(done.wait()))
    rt.spawn("helps", helps, forever=True)


def failing(rt):
    """An allocation that is tried again until it succeeds."""

    async def tries():
        while injected("alloc.x") is not None:
            await cond_resched()

    rt.spawn("tries", lambda: operation(tries()))
    rt.spawn("other", lambda: operation(step("works")))


def outcomes(build, strategy, n=20_000, **options):
    """The verdicts of executions that settled, with the number of all executions."""
    seen = {}

    def see(rt, _):
        if rt.settled_at is not None and rt.suspected is None:
            seen.setdefault(verdict_of(rt), rt)

    played = play_each(build, strategy, n, see, bounds=BOUND, **options)
    assert played < n, "not exhausted"
    return seen, played


def test_a_retry_that_only_an_endless_thread_disturbs_passes():
    seen, _ = outcomes(disturbed, SettlingStates())
    assert set(seen) == {CLEAN}


def test_who_depends_on_a_thread_that_may_stop_is_found_and_told_so():
    seen, _ = outcomes(helped, SettlingStates())
    assert set(seen) == {CLEAN, "deadlock"}
    story = seen["deadlock"].finding.story
    assert any(line.startswith("in the second phase: from step ") for line in story)


def test_every_state_needs_fewer_executions_than_every_schedule():
    def build(rt):
        for name in ("one", "two"):
            rt.spawn(name, lambda: operation(three_steps()))

    async def three_steps():
        for _ in range(3):
            await step("works")

    seen, by_state = outcomes(build, SettlingStates())
    also, by_schedule = outcomes(build, SettlingDfs())
    assert set(seen) == set(also) == {CLEAN}
    # Four steps each: 70 schedules, and the 69 prefixes of them at whose ends there is a choice.
    assert by_schedule == 70 + 69
    assert by_state < by_schedule / 2


@pytest.mark.parametrize("force", [False, True])
def test_in_the_second_phase_nothing_fails_any_more(force):
    injections = (Injection("alloc.x", errno="ENOMEM", times=1 << 30, force=force),)
    seen = set()
    for seed in range(20):
        strategy = TwoPhase(RandomWalk(seed), seed)
        rt = play_once(failing, strategy, bounds=BOUND, injections=injections)
        seen.add((rt.settled_at is not None, verdict_of(rt)))
    assert (True, CLEAN) in seen
    assert {verdict for _, verdict in seen} == {CLEAN}


def test_settling_is_one_decision_of_the_tape_and_replays():
    settled = 0
    for seed in range(200):
        rt = play_once(helped, TwoPhase(RandomWalk(seed), seed), bounds=BOUND)
        entries = [entry for entry in rt.tape if entry[0] == SETTLE]
        assert len(entries) == (rt.settled_at is not None)
        settled += len(entries)
        again = replay(helped, rt.tape, bounds=BOUND)
        assert digest(again) == digest(rt)
        assert again.finding == rt.finding
    assert settled > 10


def test_where_a_strategy_loses_its_say_the_second_phase_begins():
    """What an endless adversary keeps waiting until then is not what this check is about."""

    class Never(TwoPhase):
        def begin(self, execution):
            self.first.begin(execution)
            return True

        def pick(self, enabled, current):
            return self.first.pick(enabled, current)

    async def hopeless():
        for _ in range(150):
            await step("takes long")

    def build(rt):
        async def runs():
            while not current().rt.closing:
                await step("runs")

        rt.spawn("one", lambda: operation(hopeless()))
        rt.spawn("runs", runs, forever=True)

    rt = play_once(build, Never(RandomWalk(1), 1), bounds=BOUND)
    assert verdict_of(rt) == CLEAN
    assert rt.settled_at is not None
    assert digest(replay(build, rt.tape, bounds=BOUND)) == digest(rt)


def test_a_search_that_leaves_states_out_is_refused():
    with pytest.raises(StrategyError, match="--two-phase: strategy dpor"):
        make_strategy("dpor+two-phase", seed=1)
    assert isinstance(make_strategy("stateful+two-phase", seed=1), SettlingStates)
