"""What an execution of the litmus costs, and where its time goes, against stock asyncio.

Run with ``pytest tests/benchmarks -s``. Times are those of the processor, the best of some
repeats, with the trace on as always. The shares come from leaving parts out: the world alone
(built and not played), a toy of as many steps (scheduling and no model), no oracle (it only
watches, so the executions are the same); the model is the rest.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from test_loop import stock_switch_us

from mshv_async.driver import resolve_driver
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.catalogue import make_strategy
from mshv_async.scenario import Scenario
from mshv_async.scenario import world as scenario_world
from mshv_async.scenario.world import WorldPlan, build_runtime
from mshv_async.sim import Op, Runtime, do, run_on_stage

if TYPE_CHECKING:
    from mshv_async.oracle import Observed
    from mshv_async.sim import Stage

pytestmark = pytest.mark.benchmark

LITMUS = "litmus/two-vps-one-reclaimer"
DRIVER = "fix1"
EXECUTIONS = 60
REPEATS = 3
TOY_THREADS = 3


class Cost(NamedTuple):
    """Of one execution: processor time in microseconds, and scheduler steps."""

    us: float
    steps: float


def executions(strategy: str) -> Cost:
    """Explore the litmus with a campaign, as the command does."""
    scenario, driver = Scenario.load(LITMUS), resolve_driver(DRIVER)
    start = time.process_time()
    result = explore_sync(scenario, driver, strategy=strategy, schedules=EXECUTIONS)
    us = (time.process_time() - start) / EXECUTIONS * 1e6
    assert not result.findings
    return Cost(us, result.steps / EXECUTIONS)


def builds_us(strategy: str) -> float:
    """Build the world as often, and play nothing."""
    plan = WorldPlan.of(Scenario.load(LITMUS), resolve_driver(DRIVER))
    chooser = make_strategy(strategy, seed=1, preemptions=None)
    start = time.process_time()
    for _ in range(EXECUTIONS):
        build_runtime(plan, chooser)
    return (time.process_time() - start) / EXECUTIONS * 1e6


def scheduling_us(strategy: str, steps: int) -> float:
    """Play toys of as many steps, which do nothing but declare an operation."""
    chooser = make_strategy(strategy, seed=1, preemptions=None)
    op = Op("toy.step")

    async def body() -> None:
        for _ in range(steps // TOY_THREADS):
            await do(op)

    async def act(stage: Stage) -> float:
        start = time.process_time()
        for number in range(EXECUTIONS):
            chooser.begin(number)
            rt = Runtime(chooser)
            for name in "abc":
                rt.spawn(name, body)
            await stage.play(rt)
        return (time.process_time() - start) / EXECUTIONS * 1e6

    return float(run_on_stage(act))


def no_oracle(observed: Observed) -> list[Any]:
    """Follow the regions, and judge nothing."""
    observed.begin()
    return []


@pytest.mark.parametrize("strategy", ["random", "pct"])
def test_executions_of_the_litmus(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = stock_switch_us()
    # Interleaved, so that a busy machine troubles all of them alike.
    whole, built, scheduled, unwatched = [], [], [], []
    for _ in range(REPEATS):
        whole.append(executions(strategy))
        built.append(builds_us(strategy))
        scheduled.append(scheduling_us(strategy, round(whole[-1].steps)))
        with monkeypatch.context() as patch:
            patch.setattr(scenario_world, "attach", no_oracle)
            unwatched.append(executions(strategy))
    us, steps = min(whole)
    parts = {
        "world": min(built),
        "scheduling": min(scheduled),
        "oracle": us - min(unwatched).us,
    }
    parts["model"] = us - sum(parts.values())
    shares = ", ".join(f"{name} {part:.0f} us" for name, part in parts.items())
    print(
        f"\n{strategy}: {1e6 / us:.0f} executions a second, {us:.0f} us and {steps:.1f} steps each"
        f"\n  {us / steps:.2f} us a step, {us / steps / stock:.1f} switches of stock asyncio"
        f" ({stock:.2f} us)\n  {shares}"
    )
    assert all(cost.steps == unwatched[0].steps for cost in whole), "the oracle changes nothing"
    assert us / steps < 40 * stock
