"""What a thread may still touch is learned; what was learned too late must not be believed."""

from __future__ import annotations

from playing import LastPass, operation, play_each

from mshv_async.sim import Bounds, Shared, choose, step
from mshv_async.sim.strategies import Dfs, Stateful


class Cell(Shared):
    __slots__ = ("value",)

    def __init__(self, name):
        super().__init__(name)
        self.value = 0


def outcomes(build, strategy):
    seen = LastPass(strategy)
    play_each(build, strategy, 20_000, lambda rt, r: rt.cut or seen.add(r), bounds=Bounds())
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
