"""Strategies: what each enumerates, finds and repeats."""

from __future__ import annotations

import math

import pytest
from playing import CLEAN, exhaust, play_each, play_once, random_runs, replay, schedule, verdicts_of
from toys import philosophers

from mshv_async.sim import Mutex, Shared, choose, oops, point, sleep_ns, step
from mshv_async.sim.digest import digest
from mshv_async.sim.strategies import Dfs, Fifo, Pct, RandomWalk, Replay
from mshv_async.sim.tape import THREAD, Decision


def walkers(*lengths):
    """Threads a, b, … that take so many steps each after their start."""

    async def walk(name, steps):
        for i in range(1, steps + 1):
            await step(f"{name}{i}")

    def build(rt):
        for name, steps in zip("abc", lengths, strict=False):
            rt.spawn(name, lambda name=name, steps=steps: walk(name, steps))

    return build


def schedules(build, strategy):
    found = []
    play_each(build, strategy, 10_000, lambda rt, _: found.append(schedule(rt)))
    return found


def short(words):
    """``a.thread.start`` -> ``A``, ``a.a1`` -> ``a1``."""
    return " ".join(
        w[0].upper() if w.endswith("start") else w.partition(".")[2] for w in words.split()
    )


def test_dfs_enumerates_exactly_the_interleavings_of_a_tiny_program():
    # Two threads, A then a1, and B then b1. All orders that keep each thread's own, in the order
    # of the search (the running thread goes on first):
    expected = [
        "A a1 B b1",
        "A B b1 a1",
        "A B a1 b1",
        "B A a1 b1",
        "B A b1 a1",
        "B b1 A a1",
    ]
    found = [short(s) for s in schedules(walkers(1, 1), Dfs())]
    assert sorted(found) == sorted(expected)
    assert found[0] == expected[0]


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 2), (3, 3), (2, 5)])
def test_dfs_counts_all_merges_of_two_threads(a, b):
    found = schedules(walkers(a, b), Dfs())
    assert len(found) == len(set(found)) == math.comb(a + b + 2, a + 1)


@pytest.mark.parametrize(("n", "count"), [(1, 1), (2, 8), (3, 168)])
def test_dfs_counts_lock_then_unlock_by_n_threads(n, count):
    # Start S, lock L, unlock U of each thread. The n critical sections LU follow each other in
    # one of n! orders; the i-th section's start may stand anywhere before its lock, that is in
    # 1, 4, 7, ... places: 2: 2 x 1 x 4 = 8, 3: 6 x 1 x 4 x 7 = 168.
    async def user(mutex):
        await mutex.lock()
        await mutex.unlock()

    def build(rt):
        mutex = Mutex("m", "M")
        for i in range(n):
            rt.spawn(f"t{i}", lambda: user(mutex))

    found = schedules(build, Dfs())
    assert len(found) == len(set(found)) == count


def test_a_preemption_bound_leaves_out_what_needs_more():
    # As above: of the six, "A B a1 b1" and "B A b1 a1" switch twice while the thread could go on.
    everything = {short(s) for s in schedules(walkers(1, 1), Dfs())}
    none = {short(s) for s in schedules(walkers(1, 1), Dfs(0))}
    assert none == {"A a1 B b1", "B b1 A a1"}
    assert {short(s) for s in schedules(walkers(1, 1), Dfs(1))} == everything - {
        "A B a1 b1",
        "B A b1 a1",
    }
    assert {short(s) for s in schedules(walkers(1, 1), Dfs(2))} == everything


def test_one_preemption_can_stand_before_each_step_but_the_first():
    # With m steps a thread, start included: no preemption 2, one 2 x (m - 1).
    assert len(schedules(walkers(4, 4), Dfs(1))) == 2 + 2 * 4


def test_executions_of_a_bounded_search_keep_the_bound():
    counts = []
    play_each(walkers(3, 3), Dfs(2), 10_000, lambda rt, _: counts.append(len(rt.preempted_at)))
    assert max(counts) == 2


def test_dfs_enumerates_values_the_benign_one_first():
    def build(rt):
        got = []

        async def user():
            got.append(choose("first", 2))
            if got[0]:
                got.append(choose("second", 3))

        rt.spawn("one", user)
        return lambda: tuple(got)

    found = []
    play_each(build, Dfs(), 100, lambda rt, result: found.append(result))
    assert found == [(0,), (1, 0), (1, 1), (1, 2)]


class Slot(Shared):
    __slots__ = ("ready", "value")

    def __init__(self):
        super().__init__("slot")
        self.ready = False
        self.value = 0


def published_too_early(steps=20):
    """The flag is set one statement before the value; the reader must get there in between.

    Depth 2: the reader's whole run has to fit between two adjacent statements of the writer.
    """

    async def writer(slot):
        for _ in range(steps):
            await step("writer.works")
        await point("slot.ready", slot)
        slot.ready = True
        await point("slot.value", slot)
        slot.value = 7
        for _ in range(steps):
            await step("writer.works")

    async def reader(slot):
        await point("reader.arrives", slot)
        if not slot.ready:
            return
        for _ in range(steps):
            await step("reader.works")
        await point("reader.looks", slot)
        if slot.value != 7:
            oops("value missing", slot)

    def build(rt):
        slot = Slot()
        rt.spawn("writer", lambda: writer(slot))
        rt.spawn("reader", lambda: reader(slot))

    return build


def test_pct_finds_an_ordering_bug_that_fifo_and_random_walks_miss():
    # One change point among ~65 decisions has to fall on the one right place.
    build = published_too_early()
    assert verdicts_of(build, Pct(1), 500)["oops"] >= 1
    assert verdicts_of(build, Fifo(), 500) == {CLEAN: 1}
    assert verdicts_of(build, RandomWalk(1), 500) == {CLEAN: 500}


@pytest.mark.parametrize("seed", range(5))
def test_pct_finds_it_with_other_seeds_too(seed):
    assert verdicts_of(published_too_early(), Pct(seed), 800)["oops"] >= 1


def test_random_and_pct_repeat_by_seed_and_differ_without():
    build = philosophers(False)

    def digests(strategy):
        found = []
        play_each(build, strategy, 30, lambda rt, _: found.append(digest(rt)))
        return found

    for kind in (RandomWalk, Pct):
        assert digests(kind(5)) == digests(kind(5))
        assert digests(kind(5)) != digests(kind(6))


def test_an_execution_of_a_random_walk_depends_on_its_number_alone():
    build, whole = philosophers(False), []
    play_each(build, RandomWalk(9), 10, lambda rt, _: whole.append(digest(rt)))

    class From(RandomWalk):
        def begin(self, execution):
            return super().begin(execution + 7)

    assert digest(play_once(build, From(9))) == whole[7]


def mixed(rt):
    """Locks, values and timers: every kind of decision."""
    mutex = Mutex("m", "M")

    async def user():
        if choose("fails", 3) == 2:
            await sleep_ns(50)
        await mutex.lock()
        await sleep_ns(10)
        await mutex.unlock()

    for name in ("one", "two", "three"):
        rt.spawn(name, user)


def test_replay_plays_exactly_the_recorded_execution():
    for rt in random_runs(mixed, 40):
        again = replay(mixed, rt.tape)
        assert again.departure is None
        assert again.tape == rt.tape
        assert digest(again) == digest(rt)


def test_a_tape_that_ends_early_goes_on_as_fifo():
    rt = random_runs(mixed, 1)[0]
    again = replay(mixed, rt.tape[:4])
    assert again.departure is None
    assert again.tape[:4] == rt.tape[:4]
    assert again.finding is None


@pytest.mark.parametrize("suspended", [False, True])
@pytest.mark.parametrize("edit", ["label", "bound", "value"])
def test_a_tape_that_does_not_fit_departs_at_the_first_wrong_decision(edit, suspended):
    recorded = random_runs(mixed, 1, seed=3)[0]
    for at in range(len(recorded.tape)):
        tape = list(recorded.tape)
        label, value, bound = tape[at]
        tape[at] = {
            "label": Decision("other", value, bound),
            "bound": Decision(label, value, bound + 1),
            "value": Decision(label, bound, bound),
        }[edit]
        again = replay(mixed, tape, suspended=suspended)
        assert again.departure is not None
        assert f"decision {at} is" in again.departure.why
        assert again.tape == recorded.tape[:at]
        assert again.departure.step == again.steps + (label == THREAD)
        assert again.error is None
        assert again.finding is None


def test_decisions_that_were_not_asked_for_are_counted():
    rt = play_once(walkers(1, 1))
    strategy = Replay([*rt.tape, Decision(THREAD, 0, 2)])
    play_once(walkers(1, 1), strategy)
    assert strategy.left == 1


def test_timers_fire_earliest_first_whenever_the_search_likes():
    def build(rt):
        log = []

        async def sleeper(name, ns):
            await sleep_ns(ns)
            log.append(name)

        async def busy():
            await step("busy")
            log.append("busy")

        rt.spawn("early", lambda: sleeper("early", 10))
        rt.spawn("late", lambda: sleeper("late", 1_000_000))
        rt.spawn("busy", busy)
        return lambda: tuple(log)

    seen = {result for _, result in exhaust(build, 3)}
    assert ("late", "early", "busy") in seen, "fired in order, but the later one ran first"
    assert ("busy", "early", "late") in seen
    assert ("early", "late", "busy") in seen, "the execution does not wait for wall time"


def test_a_thread_spawned_while_running_is_a_decision_like_the_others():
    def build(rt):
        log = []

        async def child():
            log.append("child")

        async def parent():
            rt.spawn("child", child)
            await step("parent.goes.on")
            log.append("parent")

        rt.spawn("parent", parent)
        return lambda: tuple(log)

    assert set(exhaust(build)) == {(CLEAN, ("child", "parent")), (CLEAN, ("parent", "child"))}
