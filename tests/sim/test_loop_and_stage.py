"""The simulated loop under ordinary asyncio and anyio code, and the stage that plays on it."""

from __future__ import annotations

import asyncio
import gc
import weakref

import anyio
import pytest
from playing import play_once, random_runs, verdict_of
from toys import Box, philosophers, two_locks

from mshv_async.sim import (
    Finding,
    Mutex,
    Place,
    Runtime,
    current,
    current_or_none,
    irq_save,
    kfree,
    oops,
    point,
    run_on_stage,
    step,
)
from mshv_async.sim.loop import SimLoop, sim_loop_factory
from mshv_async.sim.strategies import Fifo, RandomWalk


def on_loop(main):
    return anyio.run(main, backend_options={"loop_factory": sim_loop_factory})


# -- the loop ------------------------------------------------------------------------------------


def test_task_groups_events_and_sleeps_work_and_a_year_passes_at_once():
    async def main():
        assert isinstance(asyncio.get_running_loop(), SimLoop)
        log, event, began = [], anyio.Event(), anyio.current_time()

        async def waiter():
            await event.wait()
            log.append("woken")

        async def sleeper(days):
            await anyio.sleep(days * 86_400)
            log.append(days)

        async with anyio.create_task_group() as group:
            group.start_soon(waiter)
            for days in (365, 1, 30):
                group.start_soon(sleeper, days)
            event.set()
        assert anyio.current_time() - began == 365 * 86_400
        return log

    assert on_loop(main) == ["woken", 1, 30, 365]


def test_a_cancelled_scope_ends_its_tasks_and_the_loop_goes_on():
    async def main():
        log = []

        async def stubborn():
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
                log.append("cleaned up")

        async with anyio.create_task_group() as group:
            group.start_soon(stubborn)
            await anyio.sleep(5)
            group.cancel_scope.cancel()
        return log

    assert on_loop(main) == ["cleaned up"]


def test_timeouts_are_virtual():
    async def main():
        with anyio.move_on_after(3_600) as scope:
            await anyio.sleep_forever()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.get_running_loop().create_future()
        return scope.cancelled_caught

    assert on_loop(main)


def test_an_exception_in_a_task_comes_out():
    async def main():
        async def bad():
            await anyio.sleep(1)
            raise KeyError("bad")

        async with anyio.create_task_group() as group:
            group.start_soon(bad)
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        on_loop(main)
    assert caught.group_contains(KeyError)


def test_an_idle_loop_says_so_instead_of_hanging():
    async def main():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="idle for ever"):
        on_loop(main)


def test_a_cancelled_timer_does_not_move_the_clock():
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(1_000, print).cancel()
        await asyncio.sleep(1)
        return loop.time()

    assert on_loop(main) == 1


def test_tasks_beside_an_execution_run_at_once():
    async def act(stage):
        log = []

        async def neighbour():
            for _ in range(3):
                await asyncio.sleep(0)
            log.append("neighbour")

        async def thread():
            for _ in range(50):
                mutex = Mutex("m", "M")
                await mutex.lock()
                await mutex.unlock()
            log.append("thread")

        task = asyncio.get_running_loop().create_task(neighbour())
        rt = Runtime(RandomWalk(1))
        rt.spawn("one", thread)
        rt.spawn("two", thread)
        await stage.play(rt)
        await task
        return log

    assert run_on_stage(act)[0] == "neighbour"


# -- the stage -----------------------------------------------------------------------------------


def test_thousands_of_executions_leave_no_memory_and_no_tasks_behind():
    async def act(stage):
        strategy, alive, tasks = RandomWalk(1), weakref.WeakSet(), []
        build = philosophers(False)
        for execution in range(3_000):
            strategy.begin(execution)
            rt = Weak(strategy)
            alive.add(rt)
            build(rt)
            await stage.play(rt)
            if execution % 1_000 == 999:
                tasks.append(len(asyncio.all_tasks()))
        del rt
        gc.collect()
        return len(alive), tasks

    left, tasks = run_on_stage(act)
    assert left <= 1
    assert len(set(tasks)) == 1


class Weak(Runtime):
    """A runtime that can be referred to weakly."""


def test_threads_spawned_while_running_reuse_tasks():
    async def act(stage):
        async def child():
            await step("child")

        async def parent():
            for i in range(3):
                current().rt.spawn(f"child{i}", child)
                await step("parent")

        counts = []
        for execution in range(300):
            rt = Runtime(RandomWalk(execution))
            rt.spawn("parent", parent)
            await stage.play(rt)
            assert all(t.finished for t in rt.threads)
            counts.append(len(asyncio.all_tasks()))
        return counts

    counts = run_on_stage(act)
    assert counts[-1] == counts[100] <= 10


def test_a_defect_of_the_model_surfaces_with_thread_and_step():
    async def broken():
        await step("fine")
        await step("not.fine")
        raise KeyError("a defect")

    with pytest.raises(KeyError) as caught:
        play_once(lambda rt: void(rt.spawn("worker3", broken)))
    assert caught.value.__notes__ == ["in thread worker3 at step 3 (not.fine)"]


def void(_):
    """Drop a value: a build returns a result function or nothing."""


def test_the_stage_plays_on_after_a_defect():
    async def broken():
        await step("fine")
        raise KeyError("a defect")

    async def act(stage):
        for seed in range(20):
            rt = Runtime(RandomWalk(seed))
            rt.spawn("broken", broken)
            philosophers(True)(rt)
            with pytest.raises(KeyError):
                await stage.play(rt)
        rt = Runtime(Fifo())
        philosophers(True)(rt)
        await stage.play(rt)
        return verdict_of(rt), len(asyncio.all_tasks())

    verdict, tasks = run_on_stage(act)
    assert verdict == "clean"
    assert tasks < 12


@pytest.mark.parametrize("suspended", [False, True])
@pytest.mark.parametrize("decision", range(4))
def test_a_defect_of_a_strategy_surfaces_wherever_it_is_asked(decision, suspended):
    class Broken(Fifo):
        asked = 0

        def pick(self, enabled, cur):
            self.asked += 1
            if self.asked > decision:
                raise ZeroDivisionError
            return super().pick(enabled, cur)

    async def thread():
        await step("works")

    def build(rt):
        for name in ("one", "two", "three"):
            rt.spawn(name, thread)

    with pytest.raises(ZeroDivisionError):
        play_once(build, Broken(), suspended=suspended)


@pytest.mark.parametrize("fact", ["thread.exit", "world.end"])
def test_a_defect_of_a_watcher_surfaces_at_the_ends_too(fact):
    def build(rt):
        def watcher(*_):
            raise ZeroDivisionError

        rt.watch(fact, watcher)
        two_locks(True)(rt)

    with pytest.raises(ZeroDivisionError):
        play_once(build)


def test_listeners_hear_a_fact_before_those_who_began_to_watch_it_one_by_one():
    heard = []

    class Listener:
        def __init__(self, name):
            self.name = name

        def on_fact(self, value):
            heard.append((self.name, value))
            if value == 1 and self.name == "first":
                rt.watch("fact", lambda value: heard.append(("late", value)))
                rt.watch("other", lambda value: heard.append(("other", value)))

    rt = Runtime(RandomWalk(1))
    rt.watch("fact", lambda value: heard.append(("early", value)))
    table = {"fact": ((0, Listener.on_fact), (1, Listener.on_fact)), "other": ()}
    rt.listen(table, (Listener("first"), Listener("second")))
    for value in (0, 1, 2):
        rt.probe("fact", value)
    rt.probe("other", 3)
    assert [name for name, value in heard if value == 0] == ["first", "second", "early"]
    assert [name for name, value in heard if value == 2] == ["first", "second", "early", "late"]
    assert ("other", 3) in heard


def test_who_works_for_another_thread_than_before_belongs_to_that_ones_chain():
    rt = Runtime(RandomWalk(1))

    async def body():
        await step("works")

    old, new = rt.spawn("old", body), rt.spawn("new", body)
    server = rt.spawn("server", body, for_thread=old)
    helper = rt.spawn("helper", body, for_thread=server)
    assert [t.chain for t in rt.all_threads] == ["old", "new", "old", "old"]
    server.work_for(new)
    assert [t.chain for t in rt.all_threads] == ["old", "new", "new", "new"]
    assert server.ledger is new.ledger
    assert helper.serves is server


def test_an_interrupted_execution_is_cut_judges_nothing_and_the_stage_plays_on():
    async def act(stage):
        judged = []
        with anyio.CancelScope() as scope:

            async def interrupter():
                for _ in range(5):
                    await step("works")
                asyncio.get_running_loop().call_soon(scope.cancel)
                while True:
                    await step("works.on")

            rt = Runtime(RandomWalk(1))
            rt.watch("world.end", lambda: judged.append("end"))
            rt.spawn("interrupter", interrupter)
            philosophers(True)(rt)
            await stage.play(rt)
        assert scope.cancelled_caught
        assert rt.cut == "interrupted"
        assert rt.finding is None
        assert judged == []
        again = Runtime(RandomWalk(1))
        philosophers(True)(again)
        await stage.play(again)
        return verdict_of(again)

    assert run_on_stage(act) == "clean"


def test_interrupting_everything_ends_cleanly():
    """What Ctrl-C does: the task that plays is cancelled while threads are parked."""

    async def act(stage):
        async def forever():
            while True:
                await step("works")

        async def play():
            rt = Runtime(RandomWalk(1))
            for name in ("one", "two"):
                rt.spawn(name, forever)
            await stage.play(rt)

        player = asyncio.get_running_loop().create_task(play())
        for _ in range(20):
            await asyncio.sleep(0)
        player.cancel()
        await player

    with pytest.raises(asyncio.CancelledError):
        run_on_stage(act)


def test_no_thread_is_current_outside_of_threads():
    async def act(stage):
        rt = Runtime(Fifo())
        philosophers(True)(rt)
        await stage.play(rt)
        return current_or_none()

    assert run_on_stage(act) is None


def test_an_execution_without_threads_ends():
    assert verdict_of(play_once(lambda rt: None)) == "clean"


# -- several findings ----------------------------------------------------------------------------


def oracle_finding(rt, verdict):
    rt.report(Finding(verdict, f"{verdict}: told", step=rt.steps))


@pytest.mark.parametrize(
    ("told", "body", "worst"),
    [
        (["warn", "invariant:coherence", "guest-killed"], "goes on", "invariant:coherence"),
        (["invariant:rights"], "faults", "oops"),
        (["oops"], "uses freed memory", "oops"),
        (["lost-unlock"], "sleeps in atomic", "lost-unlock"),
        (["invariant:rights"], "sleeps in atomic", "sleep-in-atomic"),
        (["warn"], "ends", "warn"),
    ],
)
def test_the_worst_of_several_findings_of_one_step_is_the_verdict(told, body, worst):
    def build(rt):
        async def thread():
            box = Box()
            await kfree(box)
            await step("tells")
            for verdict in told:
                oracle_finding(rt, verdict)
            if body == "faults":
                oops("bad")
            if body == "uses freed memory":
                box.value = 1
            if body == "sleeps in atomic":
                irq_save()
                await Mutex("m", "M").lock()
            if body == "goes on":
                await step("never.gets.here")
                raise KeyError

        rt.spawn("one", thread)

    assert verdict_of(play_once(build)) == worst


def test_what_is_judged_later_is_judged_once_when_the_step_ends():
    judged = []

    def build(rt):
        def judge():
            judged.append(rt.steps)

        async def thread():
            for _ in range(3):
                await point("changes")
                rt.judge_later(judge)
                rt.judge_later(judge)

        rt.spawn("one", thread)

    play_once(build)
    assert judged == [2, 3, 4]


def test_a_place_names_driver_functions_first():
    places = []

    async def driver_function():
        await callback()

    async def callback():
        await step("here")
        places.append(current().rt.place())

    def build(rt):
        rt.spawn("one", driver_function)

    play_once(build, is_driver=lambda module: False)
    assert places == [Place("one", 2, ("callback", "driver_function"))]


def test_executions_of_one_stage_are_those_of_many_stages():
    together = [rt.tape for rt in random_runs(two_locks(False), 20, seed=8)]

    class From(RandomWalk):
        start = 0

        def begin(self, execution):
            return super().begin(execution + self.start)

    for i, tape in enumerate(together):
        strategy = From(8)
        strategy.start = i
        assert play_once(two_locks(False), strategy).tape == tape
