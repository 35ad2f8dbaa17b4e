"""Signals: which waits each kind ends, and what a killed thread owes."""

from __future__ import annotations

from errno import EINTR

import pytest
from playing import CLEAN, exhaust, explore, operation, play_each, play_once, verdict_of

from mshv_async.sim import (
    INTERRUPTIBLE,
    KILLABLE,
    UNINTERRUPTIBLE,
    Bounds,
    Finding,
    Mutex,
    WaitQueue,
    cond_resched,
    current,
    sleep_ns,
    step,
)
from mshv_async.sim.strategies import Fifo, RandomWalk

BOUND = Bounds(progress_steps=200, page_steps=4, max_steps=100_000)


def never():
    return False


def sleeper_and_sender(wait, send):
    def build(rt):
        queue, results = WaitQueue("q"), []

        async def sleep():
            results.append(await queue.wait_event(never, wait))

        sleeper = rt.spawn("sleeper", lambda: operation(sleep()))

        async def sender():
            await step("send")
            send(sleeper)

        rt.spawn("sender", lambda: operation(sender()))
        return lambda: tuple(results)

    return build


@pytest.mark.parametrize(
    ("wait", "send", "ends"),
    [
        (INTERRUPTIBLE, "signal", True),
        (INTERRUPTIBLE, "signal_fatal", True),
        (KILLABLE, "signal", False),
        (KILLABLE, "signal_fatal", True),
        (UNINTERRUPTIBLE, "signal", False),
        (UNINTERRUPTIBLE, "signal_fatal", False),
    ],
)
def test_a_signal_ends_the_waits_that_its_kind_ends_and_no_other(wait, send, ends):
    outcomes = exhaust(sleeper_and_sender(wait, lambda thread: getattr(thread, send)()))
    expected = {(CLEAN, (-EINTR,))} if ends else {("deadlock", ())}
    assert set(outcomes) == expected


@pytest.mark.parametrize("mode", ["timed", "explore"])
@pytest.mark.parametrize(
    ("wait", "send", "ends"),
    [
        (INTERRUPTIBLE, "signal", True),
        (KILLABLE, "signal", False),
        (KILLABLE, "signal_fatal", True),
        (UNINTERRUPTIBLE, "signal_fatal", False),
    ],
)
def test_a_signal_ends_the_sleeps_that_its_kind_ends_and_their_timers(mode, wait, send, ends):
    def build(rt):
        results = []

        async def sleep():
            results.append(await sleep_ns(1_000_000, wait))
            results.append(rt.pending_timers())

        sleeper = rt.spawn("sleeper", lambda: operation(sleep()))

        async def sender():
            await step("send")
            getattr(sleeper, send)()

        rt.spawn("sender", lambda: operation(sender()))
        return lambda: tuple(results)

    seen = []
    play_each(build, Fifo(), 1, lambda rt, r: seen.append((verdict_of(rt), r, rt)), mode=mode)
    ((verdict, result, rt),) = seen
    assert (verdict, result) == (CLEAN, (-EINTR if ends else 0, []))
    if mode == "timed":
        assert (rt.now_ns < 1_000_000) == ends


def test_a_thread_killed_before_it_sleeps_does_not_sleep():
    def build(rt):
        async def sleep():
            current().signal_fatal()
            assert await sleep_ns(1_000_000, KILLABLE) == -EINTR

        rt.spawn("sleeper", lambda: operation(sleep()))

    assert verdict_of(play_once(build, mode="timed")) == CLEAN


def test_a_signal_that_was_handled_does_not_end_the_next_wait():
    def build(rt):
        queue, results = WaitQueue("q"), []

        async def sleep():
            me = current()
            me.signal()
            results.append(await queue.wait_event(never, INTERRUPTIBLE))
            me.take_signal()
            results.append(await queue.wait_event(never, INTERRUPTIBLE))

        rt.spawn("sleeper", lambda: operation(sleep()))
        return lambda: tuple(results)

    assert set(exhaust(build)) == {("deadlock", (-EINTR,))}


def test_a_fatal_signal_cannot_be_handled():
    def build(rt):
        async def body():
            me = current()
            me.signal_fatal()
            me.take_signal()
            assert me.signal_pending
            assert me.fatal_pending

        rt.spawn("one", lambda: operation(body()))

    assert set(exhaust(build)) == {(CLEAN, None)}


def retrying(*, looks):
    """One thread tries until nothing changed meanwhile; another changes it for ever."""

    def build(rt):
        changes = [0]

        async def disturb():
            while not current().rt.closing:
                await step("change")
                changes[0] += 1

        async def retry():
            me = current()
            while True:
                seen = changes[0]
                for _ in range(6):
                    await step("work")
                if changes[0] == seen or (looks and me.fatal_pending):
                    return
                await cond_resched()

        worker = rt.spawn("worker", lambda: operation(retry()))
        rt.spawn("disturber", disturb, forever=True)

        async def kill():
            await step("kill")
            worker.signal_fatal()

        rt.spawn("killer", lambda: operation(kill()))

    return build


def test_a_retry_that_does_not_look_at_the_signal_is_unkillable():
    # With both going at the same speed it is disturbed each time. That it would get through some
    # time, which is all that livelock asks, does not help who wants it gone.
    titles = explore(retrying(looks=False), RandomWalk(3), 100, bounds=BOUND)
    assert any(title.startswith("unkillable: ") for title in titles), titles
    assert all(title.startswith(("unkillable: ", CLEAN)) for title in titles), titles


def test_a_retry_that_looks_at_the_signal_leaves():
    assert set(explore(retrying(looks=True), RandomWalk(3), 300, bounds=BOUND)) == {CLEAN}


def test_progress_does_not_excuse_a_killed_thread():
    def build(rt):
        async def busy():
            me = current()
            while True:
                me.owes_progress()
                await step("work")
                me.progress()

        worker = rt.spawn("worker", busy)

        async def kill():
            await step("kill")
            worker.signal_fatal()

        rt.spawn("killer", lambda: operation(kill()))

    rt = play_once(build, RandomWalk(1), bounds=BOUND)
    assert verdict_of(rt) == "unkillable"


def test_an_endless_thread_that_was_killed_is_waited_for():
    """It is no longer one that stops when the others are done: it has to leave by itself."""

    def build(rt):
        async def deaf():
            while not rt.closing:
                await step("work")

        worker = rt.spawn("worker", deaf, forever=True)

        async def kill():
            await step("kill")
            worker.signal_fatal()

        rt.spawn("killer", lambda: operation(kill()))

    rt = play_once(build, RandomWalk(1), bounds=BOUND)
    assert verdict_of(rt) == "unkillable"


def killed_behind_a_lock(rt):
    mutex = Mutex("m", "M")

    async def hold():
        await mutex.lock()
        for _ in range(20):
            await step("inside")
        await mutex.unlock()

    async def wait():
        await mutex.lock()
        await mutex.unlock()

    rt.spawn("holder", lambda: operation(hold()))
    waiter = rt.spawn("waiter", lambda: operation(wait()))

    async def kill():
        await step("kill")
        waiter.signal_fatal()

    rt.spawn("killer", lambda: operation(kill()))


def test_a_killed_thread_behind_a_lock_that_is_released_is_no_finding():
    assert set(explore(killed_behind_a_lock, RandomWalk(5), 300, bounds=BOUND)) == {CLEAN}


def noting(*, then):
    def build(rt):
        async def body():
            await step("one")
            rt.report(Finding("invariant:reclaim-under-lock", "noted"))
            await step("two")
            if then:
                rt.report(Finding("livelock", "the end"))
            await step("three")

        rt.spawn("one", lambda: operation(body()))

    return build


def test_a_noted_finding_lets_the_execution_go_on_and_is_what_it_came_to():
    rt = play_once(noting(then=False), Fifo())
    assert rt.finding is not None
    assert rt.finding.title == "noted"
    assert any(op.label == "three" for _, op in rt.trace)


def test_a_finding_that_ends_the_execution_comes_before_a_noted_one():
    rt = play_once(noting(then=True), Fifo())
    assert rt.finding is not None
    assert rt.finding.title == "the end"
    assert list(rt.noted) == ["noted"]
