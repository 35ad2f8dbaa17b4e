"""`explore`, `run` and `replay` as Python code calls them."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import mshv_async
from mshv_async import Outcome, Scenario, Verdict, explore, explore_sync, replay, run
from mshv_async.driver import V6, Fix1
from mshv_async.explore import save_repro
from mshv_async.explore.catalogue import StrategyError
from mshv_async.explore.drivers import driver_spec
from mshv_async.explore.repro import ReproError
from mshv_async.scenario.expect import CLEAN, EXPECTABLE
from mshv_async.sim.loop import SimLoop
from mshv_async.sim.verdicts import severity

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "litmus/one-page"


class KeepsTheMutex(V6):
    """Leaves the callback with the region's mutex."""

    async def region_interval_invalidate(self, mni: Any, range: Any, cur_seq: Any) -> bool:
        await mni.region.mutex.lock()
        return True


@pytest.mark.asyncio
async def test_a_search_inside_a_test_leaves_its_loop_running() -> None:
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.005)

    ticking = asyncio.create_task(tick())
    outcome = await explore(PAGE, driver="fix1", schedules=300)
    ticking.cancel()
    assert isinstance(outcome, Outcome)
    assert outcome.clean
    assert outcome.schedules == 300
    assert turns > 3
    assert "outcome: clean, as expected" in outcome.report()


@pytest.mark.asyncio
@pytest.mark.parametrize("driver", [KeepsTheMutex, driver_spec(KeepsTheMutex)])
async def test_a_class_is_a_driver_and_its_finding_replays(driver: Any, tmp_path: Path) -> None:
    outcome = await explore(Scenario.load(PAGE), driver=driver, schedules=200)
    assert not outcome.clean
    assert outcome.verdict is Verdict.LOST_UNLOCK
    assert outcome.driver.endswith("test_python_doors.py:KeepsTheMutex")
    assert outcome.report().startswith("lost-unlock: region_interval_invalidate")
    said = "replay: await replay(outcome.repros[0], driver=KeepsTheMutex)"
    assert said in outcome.report()

    with pytest.raises(ReproError, match="trust"):
        await replay(outcome.repros[0])
    again = await replay(outcome.repros[0], driver=KeepsTheMutex)
    assert again.matches
    assert again.verdict == "lost-unlock"
    assert "mutex.lock region@0x200.mutex" in again.report()

    save_repro(tmp_path / "x.repro.json", outcome.repros[0])
    with pytest.raises(ReproError, match=r"x\.repro\.json: .* replay with trust=True$"):
        await replay(tmp_path / "x.repro.json")
    assert (await replay(tmp_path / "x.repro.json", trust=True)).matches
    other = await replay(tmp_path / "x.repro.json", driver=Fix1)
    assert not other.matches
    assert "departs at step" in other.report()

    broken = msgspec.structs.replace(outcome.repros[0], scenario="summary =")
    save_repro(tmp_path / "broken.repro.json", broken)
    with pytest.raises(ReproError, match=r"broken\.repro\.json: litmus/one-page: end of file"):
        await replay(tmp_path / "broken.repro.json", driver=Fix1)


@pytest.mark.asyncio
async def test_a_class_inside_a_function_is_explored_too() -> None:
    class Local(KeepsTheMutex):
        pass

    outcome = await explore(PAGE, driver=Local, schedules=200)
    assert outcome.verdict is Verdict.LOST_UNLOCK
    assert (await replay(outcome.repros[0], driver=Local)).matches


@pytest.mark.asyncio
async def test_a_folder_keeps_what_the_command_line_would(tmp_path: Path) -> None:
    outcome = await explore("bugs/unmap-during-fault", schedules=200, out=tmp_path)
    names = sorted(os.listdir(tmp_path))  # noqa: PTH208 - no loop is held up by it
    assert names == ["1-invariant:teardown-clean.repro.json", "campaign.sqlite", "outcome.json"]
    assert "replay: mshv-async replay" in outcome.report()
    assert (await replay(tmp_path / names[0])).matches


@pytest.mark.asyncio
async def test_one_run_tells_its_time_and_writes_its_log(tmp_path: Path) -> None:
    outcome = await run(PAGE, driver="fix1", log=tmp_path / "run.jsonl")
    assert outcome.clean
    assert outcome.virtual_ns is not None
    assert outcome.virtual_ns > 0
    assert "of virtual time" in outcome.report()
    assert outcome.log == str(tmp_path / "run.jsonl")
    assert (tmp_path / "run.jsonl").read_text().count("\n") > 50
    assert (await run(PAGE, driver="fix1", realtime=True)).digest is None


@pytest.mark.asyncio
async def test_a_cancelled_search_lets_its_caller_go_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await explore(PAGE, driver="fix1", schedules=10_000_000)
    assert time.monotonic() - started < 5


@pytest.mark.asyncio
async def test_two_searches_at_once_come_to_what_each_comes_to_alone() -> None:
    both = await asyncio.gather(
        explore("bugs/unmap-during-fault", schedules=100),
        explore("bugs/unmap-during-fault", schedules=100),
    )
    assert len({outcome.repros[0].digest for outcome in both}) == 1


@pytest.mark.parametrize("door", [explore, run])
def test_a_search_inside_the_simulated_loop_is_refused(door: Any) -> None:
    async def inside() -> None:
        await door(PAGE)

    with (
        pytest.raises(RuntimeError, match="cannot be awaited inside one: call it from a test"),
        asyncio.Runner(loop_factory=SimLoop) as runner,
    ):
        runner.run(inside())


@pytest.mark.asyncio
async def test_the_door_for_scripts_is_refused_inside_a_loop() -> None:
    with pytest.raises(RuntimeError, match="await explore"):
        explore_sync(PAGE)


def test_scripts_search_without_a_loop() -> None:
    outcome = explore_sync(PAGE, "fix1", strategy="dfs", preemptions=0, schedules=500)
    assert outcome.exhausted
    assert outcome.preemptions == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scenario": "litmus/no-such"}, "no-such"),
        ({"scenario": PAGE, "driver": "v66"}, "v66"),
        ({"scenario": PAGE, "driver": int}, "not a driver"),
        ({"scenario": PAGE, "strategy": "luck"}, "luck"),
        ({"scenario": PAGE, "preemptions": 2}, "preemptions"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, StrategyError), match=said) as caught:
        explore_sync(**arguments)
    assert "\n" not in str(caught.value)


def test_verdicts_are_those_that_scenarios_can_expect_from_the_worst() -> None:
    assert {*Verdict} == {*EXPECTABLE, CLEAN}
    ranks = [verdict.severity for verdict in Verdict]
    assert ranks == sorted(ranks)
    assert Verdict.STALE_MAPPING.severity == severity("invariant:stale-mapping")


def test_the_package_names_its_doors_whatever_was_imported_before() -> None:
    """`mshv_async.explore` is a function although a room of the package has its name."""
    assert mshv_async.explore is explore
    assert callable(explore)
    for name in mshv_async.__all__:
        assert getattr(mshv_async, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'explroe'"):
        mshv_async.explroe  # noqa: B018


@pytest.mark.parametrize(
    "options",
    [
        {"schedules": 0},
        {"schedules": -1},
        {"schedules": "5"},
        {"schedules": True},
        {"seed": None},
        {"seed": "x"},
        {"strategy": "dfs", "preemptions": -1},
    ],
)
def test_a_search_of_nothing_is_refused_and_not_clean(options):
    with pytest.raises(ValueError, match=r"found .*; allowed: an integer from [01] on"):
        explore_sync(PAGE, "fix1", **options)
