"""The strategy that closes lock-order inversions: it brings about what a random walk misses."""

import pytest
from playing import explore, play_each, play_once, title_of

from mshv_async.sim import Mutex, RwSem, choose, step
from mshv_async.sim.digest import digest
from mshv_async.sim.strategies import RandomWalk
from mshv_async.sim.strategies.closing import Closing, Taken
from mshv_async.sim.strategies.guided import course_of

N = 100


def long_apart(rt):
    """Each thread is at the locks for two steps of many: at random they hardly meet there."""
    a, b = Mutex("a", "A"), Mutex("b", "B")

    async def take(first, second, before, after):
        for _ in range(before):
            await step("elsewhere")
        await first.lock()
        await second.lock()
        await second.unlock()
        await first.unlock()
        for _ in range(after):
            await step("elsewhere")

    rt.spawn("ab", lambda: take(a, b, 0, 60))
    rt.spawn("ba", lambda: take(b, a, 60, 0))


def guarded(rt):
    """A third lock keeps the two orders apart: there is nothing to close."""
    a, b, gate = Mutex("a", "A"), Mutex("b", "B"), Mutex("gate", "G")

    async def take(first, second):
        for lock in (gate, first, second):
            await lock.lock()
        for lock in (second, first, gate):
            await lock.unlock()

    rt.spawn("ab", lambda: take(a, b))
    rt.spawn("ba", lambda: take(b, a))


def seldom(rt):
    """One order is taken after one choice of 500 only."""
    a, b = Mutex("a", "A"), Mutex("b", "B")

    async def take(first, second):
        await first.lock()
        await second.lock()
        await second.unlock()
        await first.unlock()

    async def at_times():
        if choose("rare", 500) == 499:
            await take(b, a)

    rt.spawn("ab", lambda: take(a, b))
    rt.spawn("ba", at_times)


def chain(rt):
    """Three threads and three locks in a ring."""
    locks = [Mutex(name, name.upper()) for name in "abc"]

    async def take(first, second):
        for _ in range(12):
            await step("elsewhere")
        await first.lock()
        await second.lock()
        await second.unlock()
        await first.unlock()

    for i in range(3):
        pair = (locks[i], locks[(i + 1) % 3])
        rt.spawn(f"t{i}", lambda pair=pair: take(*pair))


def deadlocks(titles):
    return sum(n for title, n in titles.items() if title.startswith("deadlock"))


@pytest.mark.parametrize(("toy", "circle"), [(long_apart, "AB"), (chain, "ABC")])
def test_it_closes_in_nearly_every_execution_what_random_hardly_ever_does(toy, circle):
    directed = deadlocks(explore(toy, Closing(1, tuple(circle), []), N))
    at_random = deadlocks(explore(toy, RandomWalk(1), N))
    assert at_random < N / 4
    assert directed > 2 * at_random
    assert title_of(play_once(toy, Closing(1, tuple(circle), []))).startswith("deadlock")


def test_what_a_third_lock_guards_is_not_closed_and_nobody_is_held_for_ever():
    assert explore(guarded, Closing(1, ("A", "B"), []), N) == {"clean": N}


def test_a_course_brings_the_choice_that_a_pair_needs():
    courses = []

    def see(rt, _):
        if ("B", "A") in rt.lock_order.edges:
            courses.append(Taken("ba", course_of(rt)))

    play_each(seldom, RandomWalk(1), 4000, see)
    assert courses, "one of four thousand executions takes the seldom order"
    assert deadlocks(explore(seldom, Closing(1, ("A", "B"), courses[:1]), 8)) >= 2
    assert deadlocks(explore(seldom, Closing(1, ("A", "B"), []), 30)) == 0


def test_courses_lend_each_other_their_choices():
    def build(rt):
        a, b = Mutex("a", "A"), Mutex("b", "B")

        async def at_times(first, second):
            if choose("rare", 40) == 39:
                await first.lock()
                await second.lock()
                await second.unlock()
                await first.unlock()

        rt.spawn("ab", lambda: at_times(a, b))
        rt.spawn("ba", lambda: at_times(b, a))

    courses = {}

    def see(rt, _):
        for pair, edge in rt.lock_order.edges.items():
            courses.setdefault(pair, Taken(edge.thread, course_of(rt)))

    play_each(build, RandomWalk(1), 600, see)
    both = [courses["A", "B"], courses["B", "A"]]
    assert deadlocks(explore(build, Closing(1, ("A", "B"), both), 3)) == 2


def test_a_writer_that_waits_for_readers_is_held_at_its_arrival():
    def build(rt):
        sem, lock = RwSem("sem", "S"), Mutex("m", "M")

        async def reader():
            for _ in range(20):
                await step("elsewhere")
            await sem.down_read()
            await lock.lock()
            await lock.unlock()
            await sem.up_read()

        async def writer():
            await lock.lock()
            await sem.down_write()
            await sem.up_write()
            await lock.unlock()

        rt.spawn("reader", reader)
        rt.spawn("writer", writer)

    assert title_of(play_once(build, Closing(1, ("M", "S"), []))).startswith("deadlock")


def test_an_execution_depends_on_its_number_alone():
    def digests(numbers):
        found = {}
        strategy = Closing(3, ("A", "B"), [])
        for number in numbers:
            numbered = _Only(strategy, number)
            found[number] = digest(play_once(long_apart, numbered))
        return found

    assert digests([0, 5, 9]) == digests([9, 0, 5])


class _Only:
    """Plays one number of a strategy."""

    def __init__(self, strategy, number):
        self._strategy, self._number = strategy, number

    def begin(self, execution):
        del execution
        return self._strategy.begin(self._number)

    def __getattr__(self, name):
        return getattr(self._strategy, name)
