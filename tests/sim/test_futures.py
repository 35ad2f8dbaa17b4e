"""What a thread may still touch is learned; what was learned too late must not be believed."""

from __future__ import annotations

from functools import partial

import pytest
from playing import LastPass, operation, play_each

from mshv_async.sim import Bounds, Op, Shared, choose, do, step
from mshv_async.sim.faults import ModelFault
from mshv_async.sim.strategies import Dfs, Stateful, stateful


class Cell(Shared):
    __slots__ = ("value",)

    def __init__(self, name):
        super().__init__(name)
        self.value = 0


def outcomes(build, strategy):
    seen = LastPass(strategy)

    def see(rt, result):
        if not rt.cut:
            seen.add(result if rt.finding is None else rt.finding.title)

    play_each(build, strategy, 20_000, see, bounds=Bounds())
    return seen


def rare_meeting(odds):
    """Two threads of which one, once in so many ways, writes what the other works on."""

    def build(rt):
        mine, other = Cell("mine"), Cell("other")

        async def worker():
            for _ in range(3):
                await step("work", mine, write=True)
                mine.value = mine.value * 2 + 1

        async def guest():
            await step("enter", other, write=True)
            other.value = choose("way", odds)
            if other.value == odds - 1:
                await step("meddle", mine, write=True)
                mine.value = 100

        rt.spawn("worker", lambda: operation(worker()))
        rt.spawn("guest", lambda: operation(guest()))
        rt.roots = lambda: (mine, other)
        return lambda: (mine.value, other.value)

    return build


def test_a_conflict_that_no_sample_showed_is_found_and_the_search_begins_again():
    build = rare_meeting(400)  # the samples before the search are fewer
    strategy = Stateful()
    found = outcomes(build, strategy)
    assert found == outcomes(build, Dfs())
    assert strategy.restarts >= 1
    assert {(100, 399), (201, 399), (403, 399), (807, 399)} >= {r for r in found if r[1] == 399}


def test_what_samples_show_needs_no_second_pass():
    strategy = Stateful()
    assert outcomes(rare_meeting(2), strategy) == outcomes(rare_meeting(2), Dfs())
    assert strategy.restarts == 0


def test_what_another_choice_of_a_step_that_goes_alone_touches_is_held_against_it():
    def build(rt):
        mine = Cell("mine")

        async def guest():
            await step("enter", None)
            if choose("way", 400) == 399:
                mine.value = 100

        async def worker():
            for _ in range(3):
                await step("work", mine, write=True)
                mine.value = mine.value * 2 + 1

        rt.spawn("guest", lambda: operation(guest()))
        rt.spawn("worker", lambda: operation(worker()))
        rt.roots = lambda: (mine,)
        return lambda: mine.value

    strategy = Stateful()
    assert outcomes(build, strategy) == outcomes(build, Dfs()) == {7, 100, 201, 403, 807}
    assert strategy.restarts >= 1


def one_value_of_which_reads(rt):
    """A step that touches what the other works on with one value of its choice only."""
    cell, out = Cell("cell"), Cell("out")

    async def chooses():
        await step("choose", None)
        out.value = 5 if choose("pick", 2) else 1 + cell.value
        await step("and on", None)

    async def writes():
        await step("write", cell, write=True)
        cell.value = 1
        await step("and on", None)

    rt.spawn("chooses", lambda: operation(chooses()))
    rt.spawn("writes", lambda: operation(writes()))
    rt.roots = lambda: (cell, out)
    return lambda: (cell.value, out.value)


def a_guard_that_may_never_hold(rt):
    """A daemon that can go on only before the other's first step."""
    cell, out = Cell("cell"), Cell("out")

    async def waits():
        await do(Op("wait", guard=lambda _: cell.value == 0))
        out.value = 1

    async def closes():
        await step("close", cell, write=True)
        cell.value = 1
        await step("look", out)

    rt.spawn("closes", lambda: operation(closes()))
    rt.spawn("waits", waits, daemon=True)
    rt.roots = lambda: (cell, out)
    return lambda: (cell.value, out.value)


def two_faults(rt):
    """Threads that have nothing to do with each other, and both fail."""
    cells = Cell("a"), Cell("b")

    async def fails(cell, steps):
        for _ in range(steps):
            await step("work", cell, write=True)
            cell.value += 1
        raise ModelFault("oops", f"in {cell.name}", (cell,))

    for steps, cell in enumerate(cells, 1):
        body = partial(fails, cell, steps)
        rt.spawn(cell.name, lambda body=body: operation(body()))
    rt.roots = lambda: cells


@pytest.mark.parametrize("samples", [1, stateful.LEARNING])
@pytest.mark.parametrize(
    "build", [one_value_of_which_reads, a_guard_that_may_never_hold, two_faults]
)
def test_nothing_is_lost_where_a_step_ends_too_much_or_never_comes(build, samples, monkeypatch):
    monkeypatch.setattr(stateful, "LEARNING", samples)
    monkeypatch.setattr(stateful, "LEARNING_MAX", samples)
    expected = outcomes(build, Dfs())
    assert len(expected) > 1
    assert outcomes(build, Stateful()) == expected
