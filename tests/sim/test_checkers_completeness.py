"""Silence of the checks counts only if they speak: state that is changed or kept in secret.

Toys with a planted secret each, beside the honest form on which the checks stay silent.
"""

from __future__ import annotations

import pytest

from mshv_async.explore.campaign import Campaign
from mshv_async.explore.checking import ModelChecks
from mshv_async.sim import (
    Op,
    RangeMap,
    Runtime,
    Shared,
    SharedDict,
    do,
    point,
    run_on_stage,
    sleep_ns,
)
from mshv_async.sim.current import instrumented
from mshv_async.sim.strategies import Dfs


class Shelf(Shared):
    """What the threads of a toy share."""

    __slots__ = ("items", "last", "map", "table")

    def __init__(self):
        super().__init__("shelf")
        self.items = []
        self.last = ""
        self.table = SharedDict("shelf.table")
        self.map = RangeMap("shelf.map")


class ToySubject:
    """Plays a toy as a campaign plays scenarios; ``build`` returns the roots of its state."""

    def __init__(self, build):
        self.build = build

    async def play(self, stage, strategy, *, checkers=(), **_):
        rt = Runtime(strategy, checkers=checkers, suspended=bool(checkers))
        token = instrumented.set(bool(checkers))
        roots = self.build(rt)
        instrumented.reset(token)
        rt.roots = lambda: roots
        await stage.play(rt)
        return rt


def check_all_schedules(build, **options):
    """Run every schedule of a toy with all checks; return them."""
    checks = ModelChecks(**options)
    campaign = Campaign(ToySubject(build), Dfs(), strategy_name="dfs", seed=1, checks=checks)

    async def act(stage):
        await campaign.run(stage, 5_000, None, keep_going=True, progress=None)

    run_on_stage(act)
    assert campaign.exhausted
    return checks


# -- footprints: what a step changes, it must report -------------------------------------------


def changing(change):
    """Build a toy of one thread that changes the shelf in a step that declares something else."""

    def build(rt):
        shelf, other = Shelf(), Shelf()

        async def body():
            await point("elsewhere", other)
            change(shelf)
            await point("elsewhere", other)

        rt.spawn("thread", body)
        return (shelf, other)

    return build


def poke_list(shelf):
    shelf.items.append(1)


def poke_slot(shelf):
    Shelf.last.__set__(shelf, "x")


def poke_table(shelf):
    shelf.table._items["a"] = 1


def poke_beside_a_reported_key(shelf):
    shelf.table["a"] = 1
    shelf.table._items["b"] = 1


def poke_map(shelf):
    shelf.map._starts = [0]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (poke_list, "shelf.items"),
        (poke_slot, "shelf.last"),
        (poke_table, "shelf.table.'a'"),
        (poke_beside_a_reported_key, "shelf.table.'b'"),
        (poke_map, "shelf.map._starts"),
    ],
)
def test_a_change_that_is_not_reported_is_found(change, state):
    checks = check_all_schedules(changing(change))
    assert checks.complaints() == [f"{state} changed unreported by thread in the step of elsewhere"]


def set_all(shelf):
    shelf.items = [*shelf.items, 1]
    shelf.last = "x"
    shelf.table["a"] = 1
    shelf.table["b"] = shelf.table.pop("a")
    shelf.map.set(0, 4, True)
    shelf.map.clear(1, 2)


def test_changes_through_slots_and_containers_are_all_reported():
    assert check_all_schedules(changing(set_all)).silent


def test_that_the_step_declares_a_write_excuses_no_silent_change():
    def toy(rt):
        shelf = Shelf()

        async def body():
            await point("here", shelf, write=True)
            shelf.items.append(1)

        rt.spawn("thread", body)
        return (shelf,)

    complaints = check_all_schedules(toy).complaints()
    assert complaints == ["shelf.items changed unreported by thread in the step of here"]


def poke_map_beside_a_reported_range(shelf):
    shelf.map.set(0, 4, True)
    shelf.map._ends[0] = 6


def test_a_change_of_a_map_beside_the_reported_range_is_found():
    complaints = check_all_schedules(changing(poke_map_beside_a_reported_range)).complaints()
    assert [line.split()[0] for line in complaints] == [
        "shelf.map._ends",
        "shelf.map._starts",
        "shelf.map._values",
    ]


# -- state keys: what the future depends on, the key must hold ---------------------------------

HIDEOUT = {"last": ""}


def racing(last):
    """Build a toy: two threads put their names down, a third goes on by whose was the last.

    ``last(shelf)`` returns how to put one down and how to look.
    """

    def build(rt):
        shelf, own = Shelf(), (Shelf(), Shelf())
        put, look = last(shelf)

        async def writer(name, place):
            await point("write", place)
            put(name)

        async def reader():
            await point("look", shelf)
            await point("left" if look() == "one" else "right", shelf)

        rt.spawn("one", lambda: writer("one", own[0]))
        rt.spawn("two", lambda: writer("two", own[1]))
        rt.spawn("reader", reader)
        return (shelf, own)

    return build


def in_a_module_global(shelf):
    HIDEOUT["last"] = ""
    return lambda name: HIDEOUT.update(last=name), lambda: HIDEOUT["last"]


def in_a_class_attribute(shelf):
    class Secret:
        last = ""

    return lambda name: setattr(Secret, "last", name), lambda: Secret.last


def in_a_slot(shelf):
    return lambda name: setattr(shelf, "last", name), lambda: shelf.last


def in_a_closure(shelf):
    last = ""

    def put(name):
        nonlocal last
        last = name

    return put, lambda: last


@pytest.mark.parametrize("secret", [in_a_module_global, in_a_class_attribute])
@pytest.mark.parametrize(
    "options",
    [{}, {"compare_every": 0, "verify_every": 1}, {"verify_every": 1 << 30}],
    ids=["both", "by following each decision", "by continuing twice"],
)
def test_state_that_the_key_does_not_hold_is_found(secret, options):
    checks = check_all_schedules(racing(secret), **options)
    assert checks.hidden
    assert checks.complaints() == checks.hidden
    assert any("left" in line or "reader leads elsewhere" in line for line in checks.hidden)


def test_a_guard_that_looks_at_what_no_root_reaches_is_found():
    def build(rt):
        one, two, secret = Shelf(), Shelf(), []
        first = Op("wait", one, guard=lambda _: secret[:1] == ["one"] or two.last == "done")

        async def writer(name, place):
            await point("write", place)
            secret.append(name)

        async def waiter():
            await do(first)

        async def bystander():
            for _ in range(2):
                await point("step", two)
            two.last = "done"

        rt.spawn("one", lambda: writer("one", one))
        rt.spawn("two", lambda: writer("two", two))
        rt.spawn("waiter", waiter)
        rt.spawn("bystander", bystander)
        return (one, two)

    hidden = check_all_schedules(build, compare_every=0).hidden
    assert any("threads can go on" in line for line in hidden), hidden


def test_timers_that_fire_between_steps_hide_nothing():
    def build(rt):
        shelf = Shelf()

        async def sleeper(name):
            await point("begin", shelf)
            await sleep_ns(1_000)
            shelf.last = name

        rt.spawn("one", lambda: sleeper("one"))
        rt.spawn("two", lambda: sleeper("two"))
        return (shelf,)

    assert check_all_schedules(build, verify_every=1).silent


@pytest.mark.parametrize("honest", [in_a_slot, in_a_closure])
def test_state_in_slots_and_in_closures_is_in_the_key(honest):
    checks = check_all_schedules(racing(honest), verify_every=1)
    assert checks.hidden == []
    assert checks.compared > 0
