"""What probing executions teach pct, pos and urw, and how a portfolio shares the budget."""

from __future__ import annotations

import pytest
from playing import operation, play_each
from test_sampling_strategies import Cell, late_thread_comes_first, lost_update

from mshv_async.sim import Mutex, Op, do, step
from mshv_async.sim.inject import Injection
from mshv_async.sim.strategies import Pct, Portfolio, Pos, RandomWalk, Starve, Urw
from mshv_async.sim.strategies.portfolio import CYCLE, turn_of
from mshv_async.sim.strategies.sampling import FAILURE_RATES, Sampling


def traces(strategy, n, build=lost_update, first=0):
    seen = []

    def see(rt, _):
        seen.append([tid for tid, _ in rt.trace])

    play_each(build, strategy, n, see)
    return seen[first:]


def own_and_shared(rt):
    """Two threads share a mutex and a cell; each has an object of its own."""
    mutex, cell, mine = Mutex("mutex", "M"), Cell(), {name: Cell() for name in "ab"}
    for name, own in mine.items():
        own.name = f"own.{name}"

    async def body(name):
        for _ in range(3):
            await step("own", mine[name], write=True)
        await mutex.lock()
        await step("cell.write", cell, write=True)
        await mutex.unlock()

    for name in "ab":
        rt.spawn(name, lambda name=name: operation(body(name)))


@pytest.mark.parametrize("cls", [Pct, Pos, Urw])
def test_what_threads_share_is_known_after_the_probes(cls):
    strategy = cls(1)
    play_each(own_and_shared, strategy, strategy.probes + 1, lambda rt, _: None)
    assert strategy.contention.shared == ["cell", "mutex"]
    assert strategy.focus <= {"cell", "mutex"}
    assert strategy.focus


def test_work_is_counted_by_object_and_by_whom_it_is_for():
    def build(rt):
        cell = Cell()

        async def body(n):
            for _ in range(n):
                await step("cell.write", cell, write=True)

        master = rt.spawn("master", lambda: operation(body(2)))
        rt.spawn("server", lambda: operation(body(3)), daemon=True, for_thread=master)
        rt.spawn("other", lambda: operation(body(4)))

    strategy = Urw(1)
    play_each(build, strategy, strategy.probes + 1, lambda rt, _: None)
    assert strategy.contention.work(["cell"]) == {"master": 5.0, "other": 4.0}
    assert strategy.contention.longest(["cell"]) == 9


def chain_of_orders(depth):
    """Threads whose steps on a cell come in another order only by so many preemptions."""

    def build(rt):
        cell = Cell()

        async def body():
            for number in range(depth):
                await step(f"cell.{number}", cell, write=True)

        rt.spawn("a", lambda: operation(body()))
        rt.spawn("b", lambda: operation(body()))

    return build


def test_pct_measures_a_larger_depth_where_more_orders_need_more_change_points():
    def depth(build):
        strategy = Pct(2)
        play_each(build, strategy, strategy.probes + 1, lambda rt, _: None)
        return strategy.depth

    assert depth(chain_of_orders(1)) == 1
    assert depth(chain_of_orders(8)) > 1


@pytest.mark.parametrize("cls", [Pct, Pos, Urw, Portfolio])
def test_an_execution_depends_on_its_number_and_the_probes_alone(cls):
    # So a worker that is given executions from 60 on plays the same as one that played them all.
    probes = cls(7).probes
    whole = traces(cls(7), 64)

    class Skips:
        """Plays the probing executions, then goes on at number 60."""

        exhaustive, prefix, suspended, records, probes = False, 0, False, False, 0

        def __init__(self):
            self.inner = cls(7)
            self.pick, self.value = self.inner.pick, self.inner.value

        def begin(self, execution):
            return self.inner.begin(execution if execution < probes else execution - probes + 60)

    assert traces(Skips(), probes + 4)[-4:] == whole[60:64]


@pytest.mark.parametrize("cls", [Pct, Pos, Urw, Portfolio])
def test_a_probing_execution_that_is_begun_twice_teaches_once(cls):
    # As an audit does, which plays each execution again.
    strategy = cls(3)

    class Twice:
        exhaustive, prefix, suspended, records, probes = False, 0, False, False, 0
        pick, value = strategy.pick, strategy.value

        def begin(self, execution):
            return strategy.begin(execution // 2)

    twice = traces(Twice(), 80)
    assert twice[::2] == twice[1::2] == traces(cls(3), 40)


def test_a_portfolio_gives_each_member_its_own_executions_in_their_order():
    numbers = {name: [] for name in CYCLE}
    for execution in range(5 * len(CYCLE)):
        name, number = turn_of(execution)
        numbers[name].append(number)
    assert all(found == list(range(5 * CYCLE.count(name))) for name, found in numbers.items())


def test_an_execution_of_a_portfolio_is_the_one_of_its_member():
    # A random walk learns nothing: its executions in the portfolio are those that it has alone.
    whole = traces(Portfolio(5), 80, late_thread_comes_first)
    alone = traces(RandomWalk(5), 10, late_thread_comes_first)
    mine = [(e, turn_of(e)[1]) for e in range(80) if turn_of(e)[0] == "random"]
    assert len(mine) > 5
    assert all(whole[execution] == alone[number] for execution, number in mine)


def test_members_learn_from_the_executions_of_all():
    strategy = Portfolio(1)
    play_each(own_and_shared, strategy, 2, lambda rt, _: None)
    strategy.begin(2)
    learnt = [strategy.members[name].contention.shared for name in ("urw", "pct", "pos")]
    assert learnt == [["cell", "mutex"]] * 3


def test_failures_are_drawn_at_one_of_the_rates_for_a_whole_execution():
    fails = []

    def build(rt):
        async def body():
            for number in range(40):
                await step("work")
                fails[-1] += rt.choose(f"site{number}.fails", 2)

        fails.append(0)
        rt.spawn("a", lambda: operation(body()))
        rt.spawn("b", lambda: operation(body()))

    play_each(build, Pos(1), 60, lambda rt, _: None, injections=(Injection("x"),))
    rare = sum(count < 25 for count in fails)  # of 80: one in eight are 10, one in two 40
    often = sum(count > 25 for count in fails)
    assert len(set(FAILURE_RATES)) == 2
    assert rare > 8
    assert often > 20


def test_every_way_to_fail_is_chosen():
    strategy = Sampling(1)
    chosen = set()
    for execution in range(50):
        strategy.begin(execution)
        chosen.add(strategy.value("label", 4))
    assert chosen == {0, 1, 2, 3}


@pytest.mark.parametrize("cls", [Pct, Pos, Urw, Starve, Portfolio])
def test_a_thread_that_waits_in_a_loop_for_whom_it_is_served_by_lets_that_run(cls):
    # They are one chain: had it one place, the first would go on until the fair tail.
    steps = []

    def build(rt):
        done = []

        async def master():
            await step("begin")
            while not done:
                await do(Op("retry", yields=True))

        async def server():
            for _ in range(5):
                await step("work")
            done.append(True)

        async def other():
            for _ in range(5):
                await step("work")

        served = rt.spawn("master", lambda: operation(master()))
        rt.spawn("server", lambda: operation(server()), daemon=True, for_thread=served)
        rt.spawn("other", lambda: operation(other()))

    play_each(build, cls(1), 60, lambda rt, _: steps.append(rt.steps))
    assert max(steps) < 200
