"""Real time: asyncio's own loop decides, and how fast the machine is does not."""

from __future__ import annotations

import time

from mshv_async.sim import run_on_stage, sleep_ns, step
from mshv_async.sim.costs import DEFAULT_NS
from mshv_async.sim.realtime import RealtimeRuntime
from mshv_async.sim.strategies import Fifo

STEPS = 60
SLEEP_STEPS = 10
"""For how many steps' time the other thread sleeps, again and again."""


def test_on_a_slow_machine_who_sleeps_a_little_leaves_the_others_time_to_work():
    woken = []

    async def work():
        for _ in range(STEPS):
            await step("work")
            time.sleep(0.001)  # noqa: ASYNC251 - a step that takes fifty times what is usual

    async def disturb():
        while rt.live[0].name == "worker":
            await sleep_ns(SLEEP_STEPS * DEFAULT_NS)
            woken.append(rt.steps)

    rt = RealtimeRuntime(Fifo())
    rt.spawn("worker", work)
    rt.spawn("disturber", disturb, daemon=True)
    run_on_stage(lambda stage: stage.play(rt), realtime=True)
    assert rt.finding is None
    assert 1 <= len(woken) <= STEPS // SLEEP_STEPS + 4
