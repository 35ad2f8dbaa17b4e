"""A world that a test drives does what it says, interleaves what runs at once, and is judged."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from mshv_async import Scenario, World
from mshv_async.driver import V6, resolve_driver
from mshv_async.explore.drivers import driver_spec
from mshv_async.sim import INTERRUPTIBLE, Completion, step
from mshv_async.sim.digest import digest
from mshv_async.sim.loop import SimLoop
from mshv_async.testing import WorldFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TWO_VPS = """\
summary = "Two VPs and four pages"

[[region]]
gfn = 0x200
size = "16KiB"

[[vp]]
count = 2
program = ["write 0x200 program"]

[[thread]]
kind = "host"
name = "discards"
program = ["forever madvise dontneed 0x201 1"]
"""


def drive(
    body: Callable[[World], Awaitable[Any]],
    *,
    text: str = TWO_VPS,
    driver: Any = "fix1",
    seed: int = 1,
    **options: Any,
) -> Any:
    """Run a body with a world on a simulated loop; return what it returns."""

    async def whole() -> Any:
        world = World(Scenario.parse(text), driver_spec(driver), seed=seed, **options)
        async with world:
            return await body(world)

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(whole())


def test_calls_return_what_the_operations_do() -> None:
    async def body(world: World) -> None:
        assert await world.vp(0).read(0x200) == 0
        assert await world.vp(0).write(0x200, "a") == 0
        assert await world.vp(1).read(0x200) == "a"
        assert await world.host.touch(0x200) == "a"
        assert await world.host.store(0x201, "b") == 0
        assert await world.vp(1).read(0x201) == "b"
        assert await world.vp(1).exec(0x202) == 0
        assert await world.host.madvise_dontneed(0x200, 2) == 0
        assert await world.vp(0).read(0x200) == 0
        assert await world.vmm.map(0x300, 2) == 0
        assert await world.vp(0).write(0x301, "c") == 0
        assert await world.vmm.map(0x301, 1) == -errno.EEXIST
        assert await world.vmm.unmap(0x300) == 0
        assert await world.vp(0).read(0x301) == -errno.EFAULT
        assert await world.vmm.unmap(0x301) == -errno.ENOENT

    drive(body)


def test_a_page_that_the_host_took_away_is_an_efault_of_the_guest() -> None:
    async def body(world: World) -> None:
        assert await world.host.munmap(0x203) == 0
        assert await world.vp(0).write(0x203) == -errno.EFAULT

    drive(body)


def test_default_tags_count_up_for_each_thread() -> None:
    async def body(world: World) -> list[Any]:
        await world.vp(1).write(0x200)
        await world.vp(1).write(0x201)
        await world.host.store(0x202)
        await world.host.store(0x203)
        return [await world.vp(0).read(gfn) for gfn in range(0x200, 0x204)]

    assert drive(body) == ["vp1.1", "vp1.2", "host.1", "host.2"]


async def storm(world: World) -> None:
    async with anyio.create_task_group() as tg:
        for index in (0, 1):
            tg.start_soon(world.vp(index).write, 0x200 + index)
            tg.start_soon(world.vp(index).read, 0x201)
        tg.start_soon(world.host.madvise_dontneed, 0x200, 4)
        tg.start_soon(world.reclaimer.reclaim, 0x200, 2)


def traced(seed: int, **options: Any) -> str:
    async def body(world: World) -> str:
        await storm(world)
        await world.settle()
        return digest(world._rt)

    return drive(body, seed=seed, **options)


@pytest.mark.parametrize("strategy", ["portfolio", "random"])
def test_the_seed_alone_decides_how_calls_interleave(strategy: str) -> None:
    first = [traced(seed, strategy=strategy) for seed in range(6)]
    assert first == [traced(seed, strategy=strategy) for seed in range(6)]
    assert len(set(first)) > 3


def test_calls_that_run_at_once_are_steps_between_each_other() -> None:
    async def body(world: World) -> list[str]:
        await storm(world)
        return [world._rt.all_threads[tid].name for tid, _ in world._rt.trace]

    names = drive(body, strategy="random")
    assert {"vp0", "vp1", "host", "reclaimer"} <= set(names)
    assert names.index("vp1") < len(names) - 1 - names[::-1].index("vp0")
    assert names.index("host") < len(names) - 1 - names[::-1].index("vp1")


def test_a_call_that_follows_another_is_issued_before_the_next_decision() -> None:
    """Else schedules in which it comes at once could not be reached."""

    async def body(world: World) -> list[tuple[str, str]]:
        async def twice() -> None:
            await world.host.do("yield")
            await world.host.do("yield")

        async with anyio.create_task_group() as tg:
            tg.start_soon(twice)
            tg.start_soon(world.vp(0).read, 0x200)
        return [(world._rt.all_threads[tid].name, op.label) for tid, op in world._rt.trace]

    found = set()
    for seed in range(30):
        trace = [step for step in drive(body, strategy="random", seed=seed) if step[0] != "timer"]
        steps = [index for index, step in enumerate(trace) if step == ("host", "thread.start")]
        found.add(steps[1] - steps[0])
    assert 2 in found, "the second call right after the first one's two steps"


def test_two_calls_to_one_vp_queue_up() -> None:
    async def body(world: World) -> Any:
        async with anyio.create_task_group() as tg:
            for tag in ("a", "b", "c"):
                tg.start_soon(world.vp(0).write, 0x200, tag)
        return await world.vp(0).read(0x200)

    assert drive(body) == "c"


def test_a_range_may_go_on_where_nothing_is_mapped() -> None:
    async def body(world: World) -> None:
        await world.vp(0).write(0x203, "a")
        assert await world.host.madvise_dontneed(0x203, 8) == -errno.ENOMEM
        assert await world.vp(0).read(0x203) == 0

    drive(body)


# -- findings -----------------------------------------------------------------------------------


class KeepsTheMutex(V6):
    async def region_interval_invalidate(self, mni: Any, range: Any, cur_seq: Any) -> bool:
        await mni.region.mutex.lock()
        return True


class WaitsForNobody(V6):
    async def region_interval_invalidate(self, mni: Any, range: Any, cur_seq: Any) -> bool:
        await Completion("nobody").wait()
        return True


class WaitsForASignal(V6):
    async def region_interval_invalidate(self, mni: Any, range: Any, cur_seq: Any) -> bool:
        await Completion("signal").wait(INTERRUPTIBLE)
        return await super().region_interval_invalidate(mni, range, cur_seq)


def failure(body: Any, **options: Any) -> WorldFailure:
    with pytest.raises((WorldFailure, BaseExceptionGroup)) as caught:
        drive(body, **options)
    error: Any = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, WorldFailure)
    return error


def test_a_finding_fails_every_call_under_way_with_the_report() -> None:
    async def body(world: World) -> None:
        await world.vp(0).write(0x200)
        await world.host.madvise_dontneed(0x200)

    error = failure(body, driver=KeepsTheMutex)
    assert error.verdict == "lost-unlock"
    text = str(error)
    assert text.startswith("lost-unlock: region_interval_invalidate (region.mutex)")
    assert "notifier.start mm0.notifier" in text, "the columns"


def test_a_finding_that_the_body_swallows_fails_it_in_the_end() -> None:
    async def body(world: World) -> None:
        await world.vp(0).write(0x200)
        with pytest.raises(WorldFailure):
            await world.host.madvise_dontneed(0x200)
        with pytest.raises(WorldFailure):
            await world.vp(0).write(0x200)

    assert failure(body, driver=KeepsTheMutex).verdict == "lost-unlock"


def test_calls_that_wait_for_ever_are_a_deadlock() -> None:
    async def body(world: World) -> None:
        await world.vp(0).write(0x200)
        await world.host.madvise_dontneed(0x200)

    error = failure(body, driver=WaitsForNobody)
    assert error.verdict == "deadlock"
    assert "host" in str(error)


def test_a_wait_that_a_later_call_ends_is_no_deadlock() -> None:
    async def body(world: World) -> int:
        await world.vp(0).write(0x200)
        async with anyio.create_task_group() as tg:
            tg.start_soon(world.host.madvise_dontneed, 0x200)
            await anyio.sleep(1)
            await world.vmm.kill()
        return await world.vp(0).read(0x200)

    assert drive(body, driver=WaitsForASignal) == -errno.EINTR


def test_an_error_of_the_users_driver_comes_out_as_it_is() -> None:
    class Breaks(V6):
        async def handle_gpa_intercept(self, vp: Any) -> Any:
            return 1 // 0

    async def body(world: World) -> None:
        await world.vp(0).write(0x200)

    with pytest.raises(ZeroDivisionError):
        drive(body, driver=Breaks)


def test_what_a_test_leaves_running_is_judged_too() -> None:
    """A finding that comes after the body's last line is a finding."""
    tasks = []

    async def body(world: World) -> None:
        await world.vp(0).write(0x200)
        tasks.append(asyncio.ensure_future(world.host.madvise_dontneed(0x200)))
        await asyncio.sleep(0)

    assert failure(body, driver=KeepsTheMutex).verdict == "lost-unlock"


def test_a_world_of_a_sound_driver_passes_a_storm() -> None:
    for seed in range(20):
        drive(storm, seed=seed)


# -- cancelling, time, other tasks --------------------------------------------------------------


def test_a_call_cannot_be_cancelled_but_its_caller_is_when_it_returns() -> None:
    async def body(world: World) -> Any:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await world.vp(0).write(0x200, "a")
            raise AssertionError("the scope ends with the call")
        async with asyncio.timeout(None):
            task = asyncio.ensure_future(world.vp(0).write(0x201, "b"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return await world.vp(1).read(0x200), await world.vp(1).read(0x201)

    assert drive(body) == ("a", "b")


def test_virtual_time_passes_only_while_the_world_has_nothing_to_do() -> None:
    async def body(world: World) -> bool:
        with anyio.move_on_after(3600) as scope:
            await storm(world)
        await anyio.sleep(3600)
        return scope.cancelled_caught

    assert drive(body) is False


def test_a_body_that_waits_for_nothing_in_the_world_is_told_so() -> None:
    async def body(world: World) -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="awaits something outside"):
        drive(body)


def test_a_world_opens_on_the_simulated_loop_only() -> None:
    async def whole() -> None:
        async with World(Scenario.parse(TWO_VPS), resolve_driver("v6")):
            pass

    with pytest.raises(TypeError, match="mark the test with mshv"):
        asyncio.run(whole())


def test_a_loop_drives_one_world_at_a_time() -> None:
    async def body(world: World) -> None:
        with pytest.raises(RuntimeError, match="one world at a time"):
            await World(world.scenario, resolve_driver("v6")).__aenter__()

    drive(body)


def test_an_interrupt_inside_modelled_code_ends_the_session_not_the_test() -> None:
    class Interrupts(V6):
        async def handle_gpa_intercept(self, vp: Any) -> Any:
            raise KeyboardInterrupt

    async def body(world: World) -> None:
        await world.vp(0).write(0x200)

    with pytest.raises(KeyboardInterrupt):
        drive(body, driver=Interrupts)


# -- programs beside ----------------------------------------------------------------------------


def test_the_programs_of_the_scenario_do_not_run_unless_asked_for() -> None:
    async def body(world: World) -> Any:
        return await world.vp(0).read(0x200)

    assert drive(body) == 0


def test_programs_run_beside_the_test_from_its_first_call_on() -> None:
    async def body(world: World) -> Any:
        assert world.steps == 0
        await world.vp(0).read(0x203)
        with pytest.raises(LookupError, match=r"vp\(1\): vp1 runs its program, .* own are: 0"):
            world.vp(1)
        with pytest.raises(LookupError, match=r"vp\(9\): the test has no such VP; .* own are: 0"):
            world.vp(9)
        await world.settle()
        return await world.vp(0).read(0x200)

    assert drive(body, programs=["vp1", "discards"]) == "program"


def test_programs_run_to_their_end_without_any_call() -> None:
    async def body(world: World) -> World:
        return world

    world = drive(body, programs=True)
    assert world.steps > 50
    labels = [op.label for _, op in world._rt.trace]
    assert labels.count("guest.write") >= 2


def test_programs_that_go_on_for_ever_do_not_keep_the_test_from_ending() -> None:
    async def body(world: World) -> None:
        for _ in range(3):
            await world.vp(0).write(0x201)
        await anyio.sleep(1)

    drive(body, programs=["discards"])


# -- bad calls ----------------------------------------------------------------------------------


def test_a_call_that_means_nothing_is_refused_in_a_line() -> None:
    async def body(world: World) -> None:
        with pytest.raises(ValueError, match="'madvise sideways 0x200 1': found") as caught:
            await world.host.madvise("sideways", 0x200)
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match="0x900, to which no region or map gives an address"):
            await world.host.touch(0x900)
        with pytest.raises(ValueError, match="found"):
            await world.host.do("unmap 0x200")
        with pytest.raises(LookupError, match="no such VP"):
            world.vp(2)

    drive(body)


def test_calls_of_a_killed_process_return_eintr() -> None:
    async def body(world: World) -> None:
        await world.vp(0).write(0x200)
        await world.vmm.kill()
        assert await world.vp(0).write(0x200) == -errno.EINTR
        assert await world.host.madvise_dontneed(0x200) == -errno.EINTR

    drive(body)


# -- kinds of worlds ----------------------------------------------------------------------------


def test_a_call_that_never_gets_done_is_a_livelock() -> None:
    class Spins(V6):
        async def region_range_fault(self, region: Any, page_offset: int, page_count: int) -> int:
            while True:
                await step("spin")

    async def body(world: World) -> None:
        await world.vp(0).write(0x200)

    assert failure(body, driver=Spins).verdict == "livelock"


def test_worlds_under_the_hypervisors_scheduler_are_driven_alike() -> None:
    text = '[hypervisor]\nscheduler = "hypervisor"\n'

    async def body(world: World) -> Any:
        await storm(world)
        assert await world.vp(0).write(0x200, "a") == 0
        return await world.vp(1).read(0x200)

    for seed in range(10):
        assert (
            drive(body, text=TWO_VPS.replace("[[region]]", f"{text}[[region]]"), seed=seed) == "a"
        )


def test_a_processor_that_another_process_runs_is_driven_too() -> None:
    text = TWO_VPS.replace("count = 2", 'process = "helper"')
    text += '[[process]]\nname = "helper"\nmemory = "8KiB"\n'

    async def body(world: World) -> None:
        assert await world.vp(0).write(0x200, "a") == 0
        await world.vmm.do("kill helper")
        assert await world.vp(0).write(0x200, "b") == -errno.EINTR
        assert await world.host.touch(0x200) == "a"

    drive(body, text=text)


def test_descriptors_are_closed_and_processes_end_by_any_operation() -> None:
    async def body(world: World) -> None:
        await world.vp(0).write(0x200, "a")
        assert await world.vmm.do("close vp 1") == 0
        assert await world.vmm.do("close vp 1") == -errno.EBADF
        assert await world.vmm.do("exit") == 0
        assert await world.host.touch(0x200) == -errno.EINTR

    drive(body, driver="fix1+regions-before-finalize+unmap-before-notifier-removal")


def test_kernel_threads_of_the_host_work_beside_the_calls() -> None:
    text = TWO_VPS.replace(
        "[[region]]",
        '[host]\nmemory = "128KiB"\nswap = "1MiB"\nwatermark = 14\nkswapd = true\n[[region]]',
    ).replace('"16KiB"', '"64KiB"')

    async def body(world: World) -> World:
        for gfn in range(0x200, 0x210):
            assert await world.vp(gfn & 1).write(gfn, f"{gfn:x}") == 0
        for gfn in range(0x200, 0x210):
            assert await world.vp(0).read(gfn) == f"{gfn:x}"
        return world

    world = drive(body, text=text)
    assert "kswapd0" in {world._rt.all_threads[tid].name for tid, _ in world._rt.trace}
