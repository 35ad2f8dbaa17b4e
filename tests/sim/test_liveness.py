"""Progress: who is livelocked, who starves, and who only takes long."""

from __future__ import annotations

import pytest
from playing import CLEAN, operation, play_once, verdict_of

from mshv_async.sim import (
    Bounds,
    Completion,
    Mutex,
    WaitQueue,
    cond_resched,
    current,
    sleep_ns,
    step,
)
from mshv_async.sim.strategies import Fifo, RandomWalk, Replay

BOUND = Bounds(progress_steps=200, page_steps=4, max_steps=100_000)


async def lock_for_ever(mutex, inside, outside):
    """Hold the mutex for so many steps, leave it for so many, until all others are done."""
    while not current().rt.closing:
        await mutex.lock()
        for _ in range(inside):
            await step("inside")
        await mutex.unlock()
        for _ in range(outside):
            await step("outside")


def beside_a_locker(body, inside, outside):
    def build(rt):
        mutex = Mutex("m", "M")
        rt.spawn("locker", lambda: lock_for_ever(mutex, inside, outside), forever=True)
        rt.spawn("user", lambda: operation(body(mutex)))

    return build


async def retry_until_taken(mutex):
    while not await mutex.trylock():
        await cond_resched()
    await mutex.unlock()


async def spin_until_taken(mutex):
    while not await mutex.trylock():
        await step("cpu_relax")
    await mutex.unlock()


async def wait_for_it(mutex):
    await mutex.lock()
    await mutex.unlock()


@pytest.mark.parametrize("body", [retry_until_taken, spin_until_taken, wait_for_it])
@pytest.mark.parametrize("period", [*range(2, 20), 31, 32, 33, 63, 64, 65])
def test_a_correct_loop_beside_a_thread_that_never_ends_is_no_finding(body, period):
    # Were all turns of the fair tail as long, a loop of that length would hold the lock at the
    # end of each, and the other would find it taken every time. fifo is the worst schedule: the
    # locker has the processor until the tail begins.
    for outside in (period // 8, period // 2):
        inside = period - 2 - outside
        if inside >= 0:
            rt = play_once(beside_a_locker(body, inside, outside), Fifo(), bounds=BOUND)
            assert verdict_of(rt) == CLEAN
            assert rt.fair


def test_a_retry_that_can_never_succeed_is_a_livelock_and_counts_its_own_steps():
    async def hopeless():
        while True:
            await cond_resched()

    def build(rt):
        rt.spawn("one", lambda: operation(hopeless()))

    rt = play_once(build, bounds=BOUND)
    assert rt.finding.verdict == "livelock"
    assert rt.finding.threads == ("one",)
    assert rt.finding.step == rt.steps
    assert BOUND.progress_steps < rt.steps < 2 * BOUND.progress_steps, "one bound, then a loop"


def test_two_threads_that_undo_each_others_work_livelock():
    def build(rt):
        flag = [0]

        async def want(value):
            while True:
                flag[0] = value
                await cond_resched()
                if flag[0] == value:
                    return

        rt.spawn("one", lambda: operation(want(1)))
        rt.spawn("two", lambda: operation(want(2)))

    assert verdict_of(play_once(build, bounds=BOUND)) == "livelock"


def test_a_wait_that_never_ends_beside_a_running_thread_is_a_deadlock():
    async def run():
        while not current().rt.closing:
            await step("runs")

    def build(rt):
        rt.spawn("waiter", lambda: operation(Completion("never").wait()))
        rt.spawn("runner", run, forever=True)

    rt = play_once(build, bounds=BOUND)
    assert rt.finding.verdict == "deadlock"
    assert rt.finding.threads == ("waiter",)


@pytest.mark.parametrize("steps", [100, 200, 400, 2_000])
@pytest.mark.parametrize("strategy", [Fifo, lambda: RandomWalk(1)])
def test_whether_a_woken_waiter_starves_does_not_depend_on_the_bound(steps, strategy):
    def build(rt):
        queue = WaitQueue("q")

        async def pulsing():
            while not rt.closing:
                await step("pulse")
                queue.wake_all()

        rt.spawn("waiter", lambda: operation(queue.wait_event(lambda: False)))
        rt.spawn("pulsing", pulsing, forever=True)

    bounds = Bounds(progress_steps=steps)
    assert verdict_of(play_once(build, strategy(), bounds=bounds)) == "starvation"


def test_the_bound_grows_with_the_pages_of_the_operation():
    async def copy(pages):
        for _ in range(3 * pages):
            await step("copy")

    def build(declared):
        def spawn(rt):
            rt.spawn("one", lambda: operation(copy(500), pages=declared))

        return spawn

    assert verdict_of(play_once(build(500), bounds=BOUND)) == CLEAN
    assert not play_once(build(500), bounds=BOUND).fair
    assert verdict_of(play_once(build(0), bounds=BOUND)) == "livelock"


def test_progress_resets_the_bound_so_a_long_program_is_fine():
    async def program():
        for _ in range(50):
            await operation(step_often(100))

    async def step_often(n):
        for _ in range(n):
            await step("work")

    rt = play_once(lambda rt: void(rt.spawn("one", program)), bounds=BOUND)
    assert rt.finding is None
    assert not rt.fair
    assert rt.steps > 10 * BOUND.progress_steps


def void(_):
    """Drop a value: a build returns a result function or nothing."""


def test_a_worker_counts_towards_the_operation_it_works_for():
    def build(rt):
        done = Completion("done")

        async def worker():
            for _ in range(10_000):
                await step("worker.works")
            await done.complete()

        async def boss():
            current().owes_progress()
            rt.spawn("worker", worker, for_thread=current())
            await done.wait()
            current().progress()

        rt.spawn("boss", boss)

    rt = play_once(build, bounds=BOUND)
    assert rt.finding.verdict == "livelock"
    assert set(rt.finding.threads) == {"boss", "worker"}


def test_a_thread_that_was_never_let_begin_is_let_begin():
    """A thread that runs for ever and comes first would else run to the limit of all steps."""

    async def run():
        while not current().rt.closing:
            await step("runs")

    def build(rt):
        rt.spawn("runner", run, forever=True)
        rt.spawn("late", lambda: operation(step("late.works")))

    rt = play_once(build, Fifo(), bounds=BOUND)
    assert verdict_of(rt) == CLEAN
    assert rt.steps < 20 * BOUND.progress_steps


def test_a_thread_between_two_operations_is_let_begin_the_next():
    async def run():
        while not current().rt.closing:
            await step("runs")

    async def twice():
        await operation(step("first"))
        await step("between")
        await operation(step("second"))

    def build(rt):
        rt.spawn("late", twice)
        rt.spawn("runner", run, forever=True)

    # The first decisions are the late thread's; fifo then never comes back from the runner.
    tape = [("thread", 0, 2), ("thread", 0, 2), ("thread", 1, 2)]
    rt = play_once(build, Replay(tape), bounds=BOUND)
    assert verdict_of(rt) == CLEAN
    assert rt.steps < 20 * BOUND.progress_steps


def test_an_execution_of_too_many_steps_is_cut_and_says_so():
    async def run():
        while True:
            await step("runs")

    rt = play_once(
        lambda rt: void(rt.spawn("runner", run)),
        bounds=Bounds(progress_steps=100, max_steps=5_000),
    )
    assert verdict_of(rt) == "cut: max_steps"
    assert 5_000 < rt.steps <= 5_000 + 0x100


def test_an_endless_thread_ends_after_the_others_and_daemons_are_not_waited_for():
    def build(rt):
        async def endless():
            while not rt.closing:
                await step("endless")

        async def daemon():
            while True:
                await sleep_ns(1_000)

        rt.spawn("endless", endless, forever=True)
        rt.spawn("daemon", daemon, daemon=True)
        rt.spawn("one", lambda: operation(step("one.works")))

    for seed in range(10):
        rt = play_once(build, RandomWalk(seed), bounds=BOUND)
        assert verdict_of(rt) == CLEAN
        assert {t.name: t.finished for t in rt.threads if t.name in {"endless", "one"}} == {
            "endless": True,
            "one": True,
        }


def test_an_idle_daemon_makes_no_deadlock_and_an_idle_thread_does():
    def build(daemon):
        def spawn(rt):
            rt.spawn("idle", lambda: Completion("never").wait(), daemon=daemon)
            rt.spawn("one", lambda: operation(step("one.works")))

        return spawn

    assert verdict_of(play_once(build(True))) == CLEAN
    assert verdict_of(play_once(build(False))) == "deadlock"


@pytest.mark.parametrize("mode", ["timed", "explore"])
def test_a_long_sleep_beside_a_thread_that_never_ends_is_no_starvation(mode):
    """The OOM reaper sleeps for two seconds; the host does a lot meanwhile."""

    def build(rt):
        async def busy():
            while not rt.closing:
                await step("busy")
                await sleep_ns(1_000)

        async def reaper():
            await sleep_ns(10_000 * BOUND.progress_steps)
            await step("reaps")

        rt.spawn("busy", busy, forever=True)
        rt.spawn("reaper", lambda: operation(reaper()))

    rt = play_once(build, Fifo(), mode=mode, bounds=BOUND)
    assert verdict_of(rt) == CLEAN
    if mode == "timed":
        assert rt.steps > 10 * BOUND.progress_steps


@pytest.mark.parametrize("mode", ["timed", "explore"])
def test_who_slept_and_then_waits_in_vain_is_blamed_all_the_same(mode):
    def build(rt):
        queue = WaitQueue("q")

        async def pulsing():
            while not rt.closing:
                await step("pulse")
                queue.wake_all()

        async def late():
            await sleep_ns(1_000)
            await queue.wait_event(lambda: False)

        rt.spawn("pulsing", pulsing, forever=True)
        rt.spawn("late", lambda: operation(late()))

    rt = play_once(build, Fifo(), mode=mode, bounds=BOUND)
    assert verdict_of(rt) in {"starvation", "livelock"}
    assert rt.finding.threads == ("late",)
