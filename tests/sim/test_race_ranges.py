"""The happens-before checker compares ranges with single keys."""

from __future__ import annotations

import pytest

from mshv_async.sim import Op, RangeMap, Runtime, do, run_on_stage
from mshv_async.sim.current import instrumented
from mshv_async.sim.races import RaceChecker
from mshv_async.sim.strategies import RandomWalk


@pytest.mark.parametrize(("hi", "races"), [(2, False), (4, True), (16, True), (1 << 40, True)])
def test_a_wide_write_meets_a_read_of_one_key(hi: int, races: bool) -> None:
    found = []

    def build(rt: Runtime) -> None:
        token = instrumented.set(True)
        shared: RangeMap[int] = RangeMap("map")
        instrumented.reset(token)

        async def writer() -> None:
            await do(Op("toy.elsewhere", anchor_a))
            shared.set(0, hi, 1)

        async def reader() -> None:
            await do(Op("toy.elsewhere", anchor_b))
            shared.get(3)

        anchor_a: RangeMap[int] = RangeMap("a")
        anchor_b: RangeMap[int] = RangeMap("b")
        rt.spawn("writer", writer)
        rt.spawn("reader", reader)

    async def act(stage) -> None:
        strategy = RandomWalk(1)
        for execution in range(20):
            strategy.begin(execution)
            checker = RaceChecker()
            rt = Runtime(strategy, checkers=(checker,))
            build(rt)
            await stage.play(rt)
            found.extend(checker.races)

    run_on_stage(act)
    assert bool(found) is races
