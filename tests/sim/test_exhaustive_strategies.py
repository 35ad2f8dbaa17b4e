"""Exhaustive searches come to the same outcomes, whatever they leave out.

Set MSHV_ASYNC_LONG=1 for 600 generated programs of each kind instead of 40.
"""

from __future__ import annotations

import os

import pytest
from generated_programs import MAP_THEMES, THEMES, builder, generate
from playing import LastPass, operation, play_each, verdict_of

from mshv_async.sim import Bounds, Mutex, RangeMap, Shared, accesses, choose, point, step
from mshv_async.sim.strategies import Dfs, Stateful, stateful

PROGRAMS = 600 if os.environ.get("MSHV_ASYNC_LONG") == "1" else 40
LIMITS = Bounds(max_steps=20_000)
#: Programs of which dfs has more schedules are not compared.
EXECUTIONS_MAX = 4_000


def outcomes(build, strategy):
    """Play all that the strategy has; return the outcomes and the number of executions.

    The outcomes are None if there are too many executions.
    """
    seen = LastPass(strategy)

    def see(rt, result):
        if verdict_of(rt) != "cut: seen":
            seen.add((rt.finding.title if rt.finding else "", result))

    n = play_each(build, strategy, EXECUTIONS_MAX, see, bounds=LIMITS)
    return (seen if n < EXECUTIONS_MAX else None), n


@pytest.mark.parametrize("first", range(0, PROGRAMS, 20))
@pytest.mark.parametrize(
    ("themes", "samples"),
    [
        pytest.param(THEMES, stateful.LEARNING, id="all"),
        pytest.param(THEMES, 3, id="all, few samples"),
        pytest.param(MAP_THEMES, 3, id="maps, few samples"),
    ],
)
def test_stateful_finds_the_outcomes_of_dfs_in_no_more_executions(
    themes, first, samples, monkeypatch
):
    # With few samples it has to notice by itself what they did not show.
    monkeypatch.setattr(stateful, "LEARNING", samples)
    monkeypatch.setattr(stateful, "LEARNING_MAX", 10 * samples)
    compared = 0
    for seed in range(first, first + 20):
        program = generate(seed, themes)
        build = builder(program)
        expected, executions = outcomes(build, Dfs())
        if expected is None:
            continue
        compared += 1
        strategy = Stateful()
        found, _ = outcomes(build, strategy)
        assert found == expected, program
        assert strategy.searched <= executions, program
    assert compared >= 12


@pytest.mark.parametrize("preemptions", [0, 1, 2])
def test_with_a_bound_too(preemptions):
    for seed in range(1_000, 1_020):
        program = generate(seed)
        build = builder(program)
        expected, _ = outcomes(build, Dfs(preemptions))
        assert expected is not None
        found, _ = outcomes(build, Stateful(preemptions))
        assert found == expected, program


class Cell(Shared):
    __slots__ = ("value",)

    def __init__(self):
        super().__init__("cell")
        self.value = 0


def writers(threads, steps, *, shared):
    """Threads that write one cell, or each its own."""

    def build(rt):
        cells = [Cell() for _ in range(threads)]
        for n, cell in enumerate(cells):
            cell.name = "cell" if shared else f"cell{n}"

        async def body(cell):
            for _ in range(steps):
                await step("work", cell, write=True)
                cell.value = 0

        for n in range(threads):
            cell = cells[0 if shared else n]
            rt.spawn(f"t{n}", lambda cell=cell: operation(body(cell)))

    return build


def test_it_takes_each_state_once_and_not_each_way_there():
    strategy = Stateful()
    outcomes(writers(3, 3, shared=True), strategy)
    # To start concerns nobody. Then each thread has up to three steps behind it: 4^3 states less
    # those with at most one thread left to run, which are no choice (1 + 3 x 3).
    assert strategy.states == 4**3 - (1 + 3 * 3)
    assert strategy.searched < 120  # of 12!/4!^3 = 34,650 interleavings


def test_threads_that_never_meet_need_one_execution():
    strategy = Stateful()
    outcomes(writers(3, 3, shared=False), strategy)
    assert (strategy.states, strategy.searched) == (0, 1)


def test_a_state_that_differs_only_in_a_local_is_another_state():
    # Both orders leave the cell at 1 when the threads stand where the locals differ.
    def build(rt):
        cell = Cell()
        results = []

        async def body():
            await step("read", cell)
            seen = cell.value
            await step("write", cell, write=True)
            cell.value = seen + 1

        rt.spawn("a", lambda: operation(body()))
        rt.spawn("b", lambda: operation(body()))
        rt.roots = lambda: (cell,)
        del results
        return lambda: cell.value

    found, _ = outcomes(build, Stateful())
    assert found == {("", 1), ("", 2)}


def test_a_finding_behind_a_state_seen_before_is_found_where_it_was_seen_first():
    def build(rt):
        first, second = Mutex("first", "F"), Mutex("second", "S")

        async def nest(outer, inner):
            await outer.lock()
            await inner.lock()
            await inner.unlock()
            await outer.unlock()

        rt.spawn("a", lambda: operation(nest(first, second)))
        rt.spawn("b", lambda: operation(nest(second, first)))
        rt.roots = lambda: (first, second)

    found, _ = outcomes(build, Stateful())
    assert any(title.startswith("deadlock") for title, _ in found)
    assert ("", None) in found


def fillers(threads, keys):
    """Threads that go through the keys of a map and fill those that they find absent."""

    def build(rt):
        entries = RangeMap("map")

        async def body(me):
            for key in range(keys):
                await point("map.read", entries, key, key + 1, write=False)
                if entries.get(key) is None:
                    await point("map.fill", entries, key, key + 1)
                    if entries.get(key) is None:
                        entries.set(key, key + 1, me)

        for me in range(threads):
            rt.spawn(f"t{me}", lambda me=me: operation(body(me)))
        rt.roots = lambda: (entries,)
        return lambda: tuple(entries)

    return build


def test_who_only_fills_what_is_absent_leaves_alone_what_is_there(monkeypatch):
    build = fillers(2, 2)
    expected, _ = outcomes(build, Dfs())
    assert expected is not None
    assert outcomes(build, Stateful())[0] == expected
    knows, guesses = Stateful(), Stateful()
    found, _ = outcomes(fillers(3, 3), knows)
    assert found is not None
    monkeypatch.setattr(accesses, "change_of", lambda _: accesses.WRITE)
    assert outcomes(fillers(3, 3), guesses)[0] == found
    assert knows.states < guesses.states / 2


def after_a_choice(threads, *, odds):
    """One thread chooses before there is anybody else, then lets the others loose on a cell."""

    def build(rt):
        cell = Cell()

        async def adds(me):
            await step("add", cell, write=True)
            cell.value = cell.value * 3 + me

        async def first():
            cell.value = choose("first", odds)
            for me in range(threads):
                rt.spawn(f"w{me}", lambda me=me: operation(adds(me + 1)))

        rt.spawn("first", lambda: operation(first()))
        rt.roots = lambda: (cell,)
        return lambda: cell.value

    return build


def test_choices_before_the_first_decision_between_threads_are_gone_through_too():
    build = after_a_choice(3, odds=3)
    expected, executions = outcomes(build, Dfs())
    assert (len(expected), executions) == (18, 270)
    strategy = Stateful()
    found, _ = outcomes(build, strategy)
    assert found == expected
    assert strategy.searched <= executions
