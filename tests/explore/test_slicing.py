"""The columns show the race: who met whom, who freed what; the rest is folded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.results import step_records
from mshv_async.explore.slicing import Slice
from mshv_async.log.columns import columns
from mshv_async.log.record import StepRecord
from mshv_async.log.report import report
from mshv_async.scenario import Scenario
from mshv_async.sim import Mutex, Runtime, Shared, choose, oops, point, run_on_stage, step
from mshv_async.sim.current import instrumented
from mshv_async.sim.strategies.guided import ChoiceKey, Course, Guided, Stretch

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.sim import Stage


class Cell(Shared):
    """Holds a value."""

    __slots__ = ("value",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.value = 0


class Recorded(Guided):
    """Follows a course and takes footprints."""

    records = True


def sliced(
    build: Callable[[Runtime], None],
    *stretches: tuple[str, int],
    failures: tuple[ChoiceKey, ...] = (),
) -> list[str]:
    """Play threads so far, one after the other; return the steps that the failure depends on."""

    async def act(stage: Stage) -> list[str]:
        token = instrumented.set(True)
        try:
            course = Course(tuple(Stretch(*s) for s in stretches), dict.fromkeys(failures, 1))
            rt = Runtime(Recorded(course))
            build(rt)
            await stage.play(rt)
        finally:
            instrumented.reset(token)
        names = [thread.name for thread in rt.all_threads]
        shown = sorted(Slice(rt).steps())
        return [f"{names[rt.trace[i][0]]} {rt.trace[i][1].label}" for i in shown]

    result: list[str] = run_on_stage(act)
    return result


def check_then_use(rt: Runtime) -> None:
    """One looks and uses later, one changes in between; both do much else, a third only that."""
    cell, mutex = Cell("cell"), Mutex("mutex", "M")

    async def busy(n: int) -> None:
        for _ in range(n):
            await step("busy")

    async def uses() -> None:
        await busy(3)
        await point("cell.look", cell, write=False)
        await busy(3)
        await point("cell.use", cell, write=False)
        if cell.value:
            oops("changed under it")

    async def changes() -> None:
        await busy(2)
        await mutex.lock()
        await busy(2)
        await point("cell.change", cell)
        cell.value = 1
        await mutex.unlock()
        await busy(1)

    rt.spawn("uses", uses)
    rt.spawn("changes", changes)
    rt.spawn("bystander", lambda: busy(4))


def test_a_race_is_left_with_the_steps_that_met_and_those_around_the_preemption():
    shown = sliced(check_then_use, ("bystander", 9), ("uses", 6), ("changes", 99), ("uses", 99))
    assert [line for line in shown if "busy" not in line and "start" not in line] == [
        "uses cell.look",
        "changes cell.change",
        "uses cell.use",
    ]
    assert not any("bystander" in line for line in shown[1:])
    # The last step before the preemption, and the first after it.
    assert "uses busy" in shown
    assert shown.count("uses busy") == 1


def test_a_lock_that_both_take_is_shown_with_its_section():
    def build(rt: Runtime) -> None:
        mutex, cell = Mutex("mutex", "M"), Cell("cell")

        async def first() -> None:
            await mutex.lock()
            await step("inside")
            await point("cell.set", cell)
            cell.value = 1
            await mutex.unlock()

        async def second() -> None:
            await step("before")
            await mutex.lock()
            await point("cell.get", cell, write=False)
            if cell.value:
                oops("set")

        rt.spawn("first", first)
        rt.spawn("second", second)

    assert sliced(build, ("first", 99), ("second", 99)) == [
        "first mutex.lock",
        "first cell.set",
        "first mutex.unlock",
        "second mutex.lock",
        "second cell.get",
    ]


def test_a_failure_that_was_chosen_is_shown():
    def build(rt: Runtime) -> None:
        async def alone() -> None:
            for _ in range(5):
                await step("work")
            await step("alloc")
            failed = choose("alloc.fails", 2)
            for _ in range(5):
                await step("more")
            if failed:
                oops("not expected")

        rt.spawn("alone", alone)

    failure = ChoiceKey("alloc.fails", "alone", 0)
    assert sliced(build, failures=(failure,)) == ["alone alloc", "alone more"]


def shown(scenario: str, driver: str = "v6") -> str:
    """Return the columns of a scenario's finding, without step numbers."""
    found = explore_sync(
        Scenario.load(scenario), driver, strategy="pct", seed=1, schedules=2000, shrink=True
    ).findings[0]
    text = report(found.finding, step_records(found.records), width=200)
    return "\n".join(x for x in text.split("\n") if re.match(r" *(\d+[> ]|…) ", x))


@pytest.mark.parametrize(
    ("scenario", "driver", "steps"),
    [
        (
            "bugs/unmap-during-fault",
            "v6",
            [
                "guest.write",
                "region.lookup",
                "region.unlink",
                "free region@0x200",
                "notifier.read_",
            ],
        ),
        (
            "bugs/callback-map-failure",
            "v6+unlock-on-failure",
            [
                "guest.write partition2.slat 0x200",
                "mutex.lock region@0x200.mutex",
                "notifier.read_retry",
                "hypercall.map_gpa.rep partition2.slat 0x200",
                "mutex.unlock region@0x200.mutex",
                "notifier.start",
                "mutex.lock region@0x200.mutex",
                "notifier.set_seq",
                "hypercall.map_gpa.rep partition2.slat 0x200 [hypercall.map_gpa.fails = 1]",
                "pte.zap",
                "page.free",
            ],
        ),
    ],
    ids=["use-after-free", "stale-mapping"],
)
def test_the_landmarks_of_a_race_in_the_driver_are_there_in_order(scenario, driver, steps):
    rest = shown(scenario, driver)
    for landmark in steps:
        before, found, rest = rest.partition(landmark)
        assert found, (landmark, before)


def steps_of(*depends: bool | None) -> list[StepRecord]:
    return [
        StepRecord(n, None, "vp0", f"work{n}", "m", depends=d) for n, d in enumerate(depends, 1)
    ]


def test_what_a_failure_does_not_depend_on_is_folded():
    lines = columns(steps_of(True, False, False, True, False, True))
    assert [line.lstrip(" 0123456789") for line in lines[2:]] == [
        "work1 m",
        "… 2 steps …",
        "work4 m",
        "… 1 step …",
        "work6 m",
    ]


def test_where_that_is_not_known_the_older_rule_stays():
    told = steps_of(True, False, False, True, False, True)
    unknown = [msgspec.structs.replace(record, depends=None) for record in told]
    assert len(columns(unknown)) == 2 + len(told)
