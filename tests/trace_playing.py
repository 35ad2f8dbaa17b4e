"""Plays the scenarios with recorded programs, and looks at what they did."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mshv_async.driver import resolve_driver
from mshv_async.explore.outcome import run_outcome
from mshv_async.explore.playing import Subject, run_result
from mshv_async.log import Analysis, RunVerdict, analyze, write_log
from mshv_async.oracle.guest_data import GuestData
from mshv_async.scenario import Scenario
from mshv_async.sim import Runtime, run_on_stage
from mshv_async.sim.strategies import Fifo

if TYPE_CHECKING:
    from pathlib import Path

    from mshv_async.explore.results import RunResult

LONG = os.environ.get("MSHV_ASYNC_LONG") == "1"
SEEDS = range(1, 21) if LONG else (1, 3)

Played = tuple[Runtime, "RunResult"]


@lru_cache(maxsize=4)
def played(name: str, driver: str, mode: str = "timed", seed: int = 1) -> Played:
    """Play a scenario and return its runtime and its result, with a log in timed mode."""
    subject = Subject(Scenario.load(name), resolve_driver(driver))

    async def act(stage: Any) -> Runtime:
        return await subject.play(stage, Fifo(), mode=mode, seed=seed, keep=mode == "timed")

    rt = run_on_stage(act, realtime=mode == "realtime")
    return rt, run_result(subject, rt, mode, seed, keep=mode == "timed")


def is_clean(rt: Runtime, result: RunResult) -> bool:
    """Whether nothing was found, cut or warned about, and that as a clean outcome."""
    outcome = run_outcome(result, scenario="", driver="", seed=1, expected=["clean"])
    return (rt.cut, rt.finding, rt.warnings) == (None, None, {}) and outcome.as_expected


def reads_checked(rt: Runtime) -> int:
    """Return how many values that guests read were compared with what had been written."""
    (checker,) = [watcher for watcher in rt.world.oracle if isinstance(watcher, GuestData)]
    return checker.reads_checked


def analysed(result: RunResult, log: Path) -> Analysis:
    """Write the log of a run and return its analysis."""
    verdict = RunVerdict(
        result.verdict, result.title, result.digest, result.steps, result.virtual_ns
    )
    write_log(log, result.header, result.records, verdict)
    return analyze(log)
