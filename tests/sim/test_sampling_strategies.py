"""Sampling strategies: each finds what a plain random walk does not, and repeats itself exactly."""

from __future__ import annotations

import pytest
from playing import CLEAN, explore, operation, play_each

from mshv_async.sim import Finding, Op, Shared, current, do, step
from mshv_async.sim.op import conflict
from mshv_async.sim.strategies import Fair, Pct, Portfolio, Pos, RandomWalk, Starve, Urw

SAMPLING = (Pct, Pos, Starve, Urw, Portfolio)
LONG = 24


class Cell(Shared):
    """A cell that remembers who touched it first."""

    __slots__ = ("first",)

    def __init__(self):
        super().__init__("cell")
        self.first = None


def late_thread_comes_first(rt):
    """A fails if its very first operation comes after the last of B, which has a long way to go.

    A random walk leaves A alone for all of B's steps once in 2^24 executions.
    """
    cell = Cell()

    async def short():
        await step("cell.take", cell, write=True)
        if cell.first == "long":
            rt.report(Finding("oops", "the long one came first"))
        await step("other")

    async def long():
        for _ in range(LONG):
            await step("far.away")
        await step("cell.take", cell, write=True)
        cell.first = "long"

    rt.spawn("short", lambda: operation(short()))
    rt.spawn("long", lambda: operation(long()))


@pytest.mark.parametrize("strategy", SAMPLING)
def test_a_short_thread_that_must_wait_for_a_long_one_is_found(strategy):
    assert explore(late_thread_comes_first, strategy(1), 600)["the long one came first"]


def test_a_plain_random_walk_does_not_find_it():
    assert set(explore(late_thread_comes_first, RandomWalk(1), 600)) == {CLEAN}


@pytest.mark.parametrize("strategy", [*SAMPLING, Fair])
def test_a_seed_gives_the_same_executions_again_and_another_seed_others(strategy):
    def traces(seed):
        seen = []
        play_each(
            late_thread_comes_first,
            strategy(seed),
            30,
            lambda rt, _: seen.append([tid for tid, _ in rt.trace]),
        )
        return seen

    assert traces(7) == traces(7)
    assert traces(7) != traces(8)


def two_who_wait_for_each_other_in_a_loop(rt):
    flags = [False, False]

    async def body(mine, other):
        await step("begin")
        flags[mine] = True
        while not flags[other]:
            await do(Op("retry", yields=True))

    rt.spawn("a", lambda: operation(body(0, 1)))
    rt.spawn("b", lambda: operation(body(1, 0)))


@pytest.mark.parametrize("strategy", [*SAMPLING, Fair])
def test_a_retry_gives_way_so_that_what_it_waits_for_can_come(strategy):
    assert set(explore(two_who_wait_for_each_other_in_a_loop, strategy(2), 100)) == {CLEAN}


def test_urw_gives_each_thread_its_share_of_the_remaining_steps():
    # Of two threads with 2 and 6 steps the shorter begins in one of four executions, not in two.
    begins = []

    def build(rt):
        async def body(n):
            for _ in range(n):
                await step("work")

        rt.spawn("short", lambda: operation(body(1)))
        rt.spawn("long", lambda: operation(body(5)))

    play_each(build, Urw(5), 800, lambda rt, _: begins.append(rt.trace[0][0]))
    assert 120 < begins[1:].count(0) < 280


def test_pos_runs_a_chain_through_what_it_shares_with_nobody():
    # A stands after all of B's operations, which conflict with nothing, in half of the executions
    # or so; a uniform walk brings that about in 900 / 2^6 = 14.
    picked = []

    def build(rt):
        shared = Cell()

        async def a():
            await step("a", shared, write=True)

        async def b():
            await step("b", shared, write=True)
            for _ in range(5):
                await step("b")

        rt.spawn("a", lambda: operation(a()))
        rt.spawn("b", lambda: operation(b()))

    play_each(build, Pos(3), 900, lambda rt, _: picked.append([tid for tid, _ in rt.trace]))
    last = sum(trace[-1] == 0 for trace in picked)
    assert last > 200


def lost_update(rt):
    """Two threads add one to a cell; between reading and writing each does much that is its own."""
    cell = Cell()
    cell.first = 0

    async def add():
        await step("cell.read", cell, write=False)
        seen = cell.first
        for _ in range(LONG):
            await step("own.work")
        await step("cell.write", cell, write=True)
        cell.first = seen + 1

    async def both():
        await step("cell.check", cell, write=False)

    rt.spawn("a", lambda: operation(add()))
    rt.spawn("b", lambda: operation(add()))
    rt.spawn("c", lambda: operation(both()))
    return lambda: cell.first


@pytest.mark.parametrize("strategy", [Pct, Pos, Urw, Portfolio])
def test_a_lost_update_is_found_among_the_first_executions(strategy):
    results = []
    play_each(lost_update, strategy(1), 20, lambda _, result: results.append(result))
    assert 1 in results


def test_fair_lets_every_thread_run_before_one_runs_twice():
    turns = []

    def build(rt):
        async def body():
            for _ in range(40):
                await step("work")

        for name in "abc":
            rt.spawn(name, lambda: operation(body()))

    strategy = Fair(1)

    def see(rt, _):
        runs = [tid for n, (tid, _) in enumerate(rt.trace) if n == 0 or rt.trace[n - 1][0] != tid]
        turns.append(runs)

    play_each(build, strategy, 40, see)
    assert len({tuple(runs) for runs in turns}) > 5, "the seed varies order and turns"
    for runs in turns:
        for at in range(len(runs) - 5):
            assert len(set(runs[at : at + 3])) == 3


def test_operations_conflict_on_the_same_state_when_one_writes():
    x, y = Cell(), Cell()
    whole = Op("w", x)
    assert conflict(whole, Op("r", x, write=False))
    assert not conflict(Op("r", x, write=False), Op("r", x, write=False))
    assert not conflict(whole, Op("w", y))
    assert not conflict(Op("w"), Op("w"))
    assert conflict(Op("w", x, 0, 4), Op("r", x, 3, 5, write=False))
    assert not conflict(Op("w", x, 0, 4), Op("w", x, 4, 8))
    assert conflict(whole, Op("w", x, 4, 8))


def test_starve_lets_the_victim_run_when_nobody_else_can():
    def build(rt):
        async def alone():
            for _ in range(50):
                await step("work")
            assert current().name == "alone"

        rt.spawn("alone", lambda: operation(alone()))
        rt.spawn("brief", lambda: operation(step("work")))

    assert set(explore(build, Starve(1), 100)) == {CLEAN}
