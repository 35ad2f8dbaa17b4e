"""The orders that an execution shows, and random paths that measure a tree of schedules."""

from __future__ import annotations

from statistics import fmean

import pytest
from playing import exhaust, operation, play_each, play_once

from mshv_async.sim import Mutex, Shared, step
from mshv_async.sim.orders import ordered_pairs, reverse
from mshv_async.sim.strategies import Fifo, Replay
from mshv_async.sim.strategies.descent import Descent
from mshv_async.sim.tape import THREAD


class Cell(Shared):
    """A cell that steps name."""

    __slots__ = ()


def spawned(rt, **bodies):
    for name, body in bodies.items():
        rt.spawn(name, lambda body=body: operation(body()))


def test_adjacent_conflicting_steps_of_two_threads_are_a_pair():
    def build(rt):
        cell, other = Cell("cell"), Cell("other")

        async def writer():
            await step("write", cell, write=True)
            await step("elsewhere", other, write=True)

        async def reader():
            await step("read", cell, write=False)
            await step("again", cell, write=False)

        spawned(rt, w=writer, r=reader)

    # Fifo: all of w, then all of r. The second read follows a read, of the same thread.
    pairs = list(ordered_pairs(play_once(build, Fifo())))
    assert pairs == [("cell", "w", "write", "r", "read")]
    assert reverse(pairs[0]) == ("cell", "r", "read", "w", "write")


def test_steps_that_do_not_conflict_are_no_pair():
    def build(rt):
        cell = Cell("cell")

        async def reader():
            await step("read", cell, write=False)

        async def nothing():
            await step("work")

        spawned(rt, a=reader, b=reader, c=nothing, d=nothing)

    assert not ordered_pairs(play_once(build, Fifo()))


def test_two_who_lock_a_mutex_have_two_orders_and_no_more():
    seen = set()

    def build(rt):
        mutex = Mutex("m", "M")

        async def body():
            await mutex.lock()
            await mutex.unlock()

        spawned(rt, a=body, b=body)

    def see(rt, _):
        seen.update(ordered_pairs(rt))

    play_each(build, Descent(1), 30, see)
    lock = "mutex.lock"
    assert seen == {("m", "a", lock, "b", lock), ("m", "b", lock, "a", lock)}


def independent(threads, steps):
    """Threads that share nothing: the tree of schedules has one leaf for each interleaving."""

    def build(rt):
        async def body():
            for _ in range(steps):
                await step("work")

        spawned(rt, **{f"t{n}": body for n in range(threads)})

    return build


def mean_of_descents(build, n, preemptions=None):
    descent = Descent(1, preemptions)
    leaves = []
    play_each(build, descent, n, lambda _rt, _: leaves.append(descent.leaves))
    return fmean(leaves)


@pytest.mark.parametrize(
    ("threads", "steps", "preemptions"),
    [(2, 3, None), (3, 1, None), (2, 6, 1), (2, 6, 2), (3, 2, 2)],
)
def test_the_mean_of_random_paths_is_the_number_of_schedules(threads, steps, preemptions):
    build = independent(threads, steps)
    leaves = sum(exhaust(build, preemptions).values())
    assert mean_of_descents(build, 1_500, preemptions) == pytest.approx(leaves, rel=0.15)


def test_data_choices_are_branches_too():
    def build(rt):
        async def body():
            for number in range(3):
                await step("work")
                rt.choose(f"choice{number}", 4)

        spawned(rt, a=body)

    assert mean_of_descents(build, 5) == 64


def test_a_path_within_a_bound_is_one_that_dfs_takes():
    def build(rt):
        return independent(2, 5)(rt)

    descent = Descent(2, 1)
    preempted = []
    tapes = []

    def see(rt, _):
        preempted.append(len(rt.preempted_at))
        tapes.append(tuple(rt.tape))

    play_each(build, descent, 40, see)
    assert set(preempted) == {0, 1}
    again = play_once(build, Replay(tapes[0]))
    assert all(label == THREAD for label, _, _ in again.tape)
    assert tuple(again.tape) == tapes[0]
