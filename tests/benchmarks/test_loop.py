"""What the loop and the scheduling points cost, each against stock asyncio in the same run.

Run with ``pytest tests/benchmarks --benchmark-enable -s``; the ratios are printed and asserted
loosely, since machines are noisy.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from mshv_async.sim import Bounds, Mutex, Op, Runtime, do, run_on_stage
from mshv_async.sim.loop import sim_loop_factory
from mshv_async.sim.strategies import Fifo, RandomWalk
from mshv_async.sim.thread import Parker, park

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.sim import Stage

pytestmark = pytest.mark.benchmark

SWITCHES = 40_000
UNBOUNDED = Bounds(progress_steps=1 << 40)  # nobody here makes progress
REPEATS = 5


def best(measure: Callable[[], float]) -> float:
    """Return the shortest of some measurements, in microseconds."""
    return min(measure() for _ in range(REPEATS)) * 1e6


def stock_switch_us() -> float:
    """Two stock tasks that yield to each other."""

    async def spin() -> None:
        for _ in range(SWITCHES // 2):
            await asyncio.sleep(0)

    async def both() -> float:
        start = time.perf_counter()
        await asyncio.gather(spin(), spin())
        return (time.perf_counter() - start) / SWITCHES

    return best(lambda: asyncio.run(both()))


def sim_switch_us() -> float:
    """Two tasks of the simulated loop that resume each other through their parkers."""

    async def spin(loop: object, mine: Parker, other: Parker) -> None:
        for _ in range(SWITCHES // 2):
            loop.next_parker = other  # type: ignore[attr-defined]
            await park(mine)
        loop.next_parker = other if other.wake is not None else None  # type: ignore[attr-defined]

    async def both() -> float:
        loop = asyncio.get_running_loop()
        a, b = Parker(loop), Parker(loop)
        start = time.perf_counter()
        await asyncio.gather(spin(loop, a, b), spin(loop, b, a))
        return (time.perf_counter() - start) / SWITCHES

    def measure() -> float:
        with asyncio.Runner(loop_factory=sim_loop_factory) as runner:
            return runner.run(both())

    return best(measure)


def points_us(build: Callable[[Runtime], None], strategy: Fifo | RandomWalk) -> float:
    """Controlled points of one execution, in microseconds each."""

    async def act(stage: Stage) -> float:
        strategy.begin(0)
        rt = Runtime(strategy, bounds=UNBOUNDED)
        build(rt)
        start = time.perf_counter()
        await stage.play(rt)
        return (time.perf_counter() - start) / rt.steps

    return best(lambda: run_on_stage(act))


def two_threads(rt: Runtime, points: int = 20_000) -> None:
    op = Op("toy.step")

    async def body() -> None:
        for _ in range(points):
            await do(op)

    rt.spawn("a", body)
    rt.spawn("b", body)


class Alternate(Fifo):
    """Always the thread that did not run last."""

    def pick(self, enabled: object, current: object) -> int:
        return 1 if enabled[0] is current else 0  # type: ignore[index]


def test_task_switch_is_not_slower_than_stock_asyncio() -> None:
    stock, sim = stock_switch_us(), sim_switch_us()
    print(f"\ntask switch: stock {stock:.2f} us, simulated {sim:.2f} us, ratio {sim / stock:.2f}")
    assert sim < 1.3 * stock


def test_controlled_points() -> None:
    stock = stock_switch_us()
    same = points_us(two_threads, Fifo())
    change = points_us(two_threads, Alternate())
    print(
        f"\npoint, same thread goes on: {same:.2f} us, {1 / same:.2f} M/s, "
        f"{same / stock:.2f} of a stock switch"
        f"\npoint, thread changes:      {change:.2f} us, {1 / change:.2f} M/s, "
        f"{change / stock:.2f} of a stock switch"
    )
    assert same < 1.5 * change  # on an idle machine about half of it
    assert change < 6 * stock


def test_a_contended_mutex_costs_a_few_points() -> None:
    stock = stock_switch_us()

    def build(rt: Runtime) -> None:
        mutex = Mutex("m", "m")

        async def body() -> None:
            for _ in range(5_000):
                await mutex.lock()
                await mutex.unlock()

        rt.spawn("a", body)
        rt.spawn("b", body)

    each = points_us(build, RandomWalk(1))
    print(f"\nmutex lock or unlock: {each:.2f} us, {each / stock:.2f} of a stock switch")
    assert each < 8 * stock
