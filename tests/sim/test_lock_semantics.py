"""Locks do what the kernel's do, over all schedules of small programs."""

from __future__ import annotations

import errno

import pytest
from playing import CLEAN, exhaust, play_once, random_runs, schedule, verdict_of

from mshv_async.sim import (
    Completion,
    Mutex,
    SpinLock,
    WaitQueue,
    current,
    irq_restore,
    irq_save,
    point,
    step,
)
from mshv_async.sim.strategies import Fifo

EINTR = -errno.EINTR


async def hold(lock, inside=None, label="hold"):
    await lock.lock()
    if inside is not None:
        inside.append(current().name)
        assert len(inside) == 1, "two threads inside"
    await step(label)
    if inside is not None:
        inside.pop()
    await lock.unlock()


# -- mutex ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", ["mutex", "mutex killable"])
def test_a_mutex_admits_one_thread_at_a_time_in_all_schedules(lock):
    async def user(mutex, inside):
        if lock == "mutex":
            await mutex.lock()
        else:
            assert await mutex.lock_killable() == 0
        inside.append(1)
        await step("inside")
        assert len(inside) == 1, "two threads inside"
        inside.pop()
        await mutex.unlock()

    def build(rt):
        mutex, inside = Mutex("m", "M"), []
        for name in ("one", "two"):
            rt.spawn(name, lambda: user(mutex, inside))

    assert set(exhaust(build)) == {(CLEAN, None)}


def test_taking_a_mutex_again_waits_for_oneself():
    async def twice(mutex):
        await mutex.lock()
        await mutex.lock()

    rt = play_once(lambda rt: void(rt.spawn("one", lambda: twice(Mutex("m", "M")))))
    assert rt.finding.verdict == "deadlock"
    assert rt.finding.waits == ("one waits for one at mutex.lock m",)


def void(_):
    """Drop a value: a build returns a result function or nothing."""


def test_trylock_succeeds_only_on_a_free_mutex_and_never_waits():
    def build(rt):
        mutex, got = Mutex("m", "M"), []

        async def trier():
            got.append(await mutex.trylock())
            if got[0]:
                await mutex.unlock()

        rt.spawn("holder", lambda: hold(mutex))
        rt.spawn("trier", trier)
        return lambda: got[0]

    assert {result for _, result in exhaust(build)} == {True, False}
    assert {verdict for verdict, _ in exhaust(build)} == {CLEAN}


def test_a_trylock_taken_in_the_other_order_predicts_no_inversion():
    def build(*, tried):
        async def forward(a, b):
            await a.lock()
            await b.lock()
            await b.unlock()
            await a.unlock()

        async def backward(a, b):
            await b.lock()
            if tried:
                if await a.trylock():
                    await a.unlock()
            else:
                await a.lock()
                await a.unlock()
            await b.unlock()

        def spawn(rt):
            a, b = Mutex("a", "A"), Mutex("b", "B")
            rt.spawn("one", lambda: forward(a, b))
            rt.spawn("two", lambda: backward(a, b))

        return spawn

    assert play_once(build(tried=True)).lock_order.inversions() == []
    # fifo runs them one after the other: nothing locks up, yet the inversion is seen.
    rt = play_once(build(tried=False))
    assert rt.finding is None
    assert rt.lock_order.inversions() == [("A", "B")]


def test_a_killable_lock_gives_eintr_once_a_fatal_signal_is_pending_but_takes_a_free_mutex():
    def build(rt):
        mutex, got = Mutex("m", "M"), []

        async def victim():
            got.append(await mutex.lock_killable())
            if got[0] == 0:
                await mutex.unlock()

        async def killer():
            await mutex.lock()
            await point("signal.send")
            thread.signal_fatal()
            await mutex.unlock()

        thread = rt.spawn("victim", victim)
        rt.spawn("killer", killer)
        return lambda: got[0]

    assert set(exhaust(build)) == {(CLEAN, 0), (CLEAN, EINTR)}


def test_a_lone_user_of_a_zeroed_mutex_gets_by_and_a_second_one_faults():
    def build(n):
        def spawn(rt):
            mutex = Mutex.zeroed("region.mutex", "REGION")
            for i in range(n):
                rt.spawn(f"user{i}", lambda: hold(mutex))

        return spawn

    assert {v for v, _ in exhaust(build(1))} == {CLEAN}
    assert {v for v, _ in exhaust(build(2))} == {CLEAN, "oops"}


def test_initialising_a_held_mutex_takes_it_from_its_owner():
    def build(rt):
        mutex = Mutex.zeroed("m", "M")

        async def initialiser():
            await step("mutex_init", mutex)
            mutex.init()

        rt.spawn("owner", lambda: hold(mutex))
        rt.spawn("initialiser", initialiser)

    assert {v for v, _ in exhaust(build)} == {CLEAN, "oops"}


# -- spinlock, interrupts ------------------------------------------------------------------------


def test_a_spinlock_section_is_one_step():
    def build(rt):
        lock, log = SpinLock("s", "S"), []

        async def user():
            await lock.lock()
            log.append("in")
            log.append("out")
            lock.unlock()

        for name in ("one", "two"):
            rt.spawn(name, user)
        return lambda: tuple(log)

    # one.start one.lock / two.start two.lock: 4 steps, each thread's in order: 6 schedules.
    assert exhaust(build) == {(CLEAN, ("in", "out") * 2): 6}


def test_unlocking_a_spinlock_that_is_not_ours_is_an_oops():
    async def user():
        SpinLock("s", "S").unlock()

    assert play_once(lambda rt: void(rt.spawn("one", user))).finding.verdict == "oops"


@pytest.mark.parametrize(("off", "verdict"), [(True, "sleep-in-atomic"), (False, CLEAN)])
def test_sleeping_with_interrupts_off_is_found(off, verdict):
    async def user(mutex):
        irq_save()
        if not off:
            irq_restore()
        await mutex.lock()
        await mutex.unlock()
        if off:
            irq_restore()

    rt = play_once(lambda rt: void(rt.spawn("one", lambda: user(Mutex("m", "M")))))
    assert verdict_of(rt) == verdict


def test_a_preemption_point_under_a_spinlock_is_no_sleep():
    async def user(lock):
        await lock.lock()
        await step("still.atomic")
        lock.unlock()

    def build(rt):
        lock = SpinLock("s", "S")
        rt.spawn("one", lambda: user(lock))
        rt.spawn("two", lambda: user(lock))

    assert {v for v, _ in exhaust(build)} == {CLEAN}


# -- wait queue, completion ----------------------------------------------------------------------


def test_a_sleeper_is_woken_by_a_wake_up_and_never_by_the_condition_alone():
    def build(rt):
        queue, ready = WaitQueue("q"), []

        async def sleeper():
            await queue.wait_event(lambda: bool(ready))

        async def forgetful():
            while not queue.waiters:
                await step("forgetful.waits")
            ready.append(1)

        rt.spawn("sleeper", sleeper)
        rt.spawn("forgetful", forgetful)

    assert {verdict_of(rt) for rt in random_runs(build, 20)} == {"deadlock"}


def test_wake_up_wakes_the_first_sleeper_and_wake_all_all_of_them():
    def build(how):
        def spawn(rt):
            queue, ready, left = WaitQueue("q"), [], []

            async def sleeper():
                await queue.wait_event(lambda: bool(ready))
                left.append(current().name)

            async def waker():
                while len(queue.waiters) < 2:
                    await step("waker.waits")
                ready.append(1)
                first = queue.waiters[0].name
                getattr(queue, how)()
                left.append(first)

            for name in ("one", "two"):
                rt.spawn(name, sleeper)
            rt.spawn("waker", waker)
            rt.later_result = lambda: left

        return spawn

    for rt in random_runs(build("wake_all"), 30):
        assert verdict_of(rt) == CLEAN
    for rt in random_runs(build("wake_up"), 30):
        left = rt.later_result()
        assert verdict_of(rt) == "deadlock"
        assert left[0] == left[1], "the one who came first was woken, and nobody else"


def test_sleepers_that_are_woken_together_are_in_no_order():
    """Else a proof takes each order of their coming for a state of its own."""

    def build(rt):
        queue, ready = WaitQueue("q", together=True), []

        async def sleeper():
            await queue.wait_event(lambda: bool(ready))

        async def waker():
            while len(queue.waiters) < 2:
                await step("waker.waits")
            assert [t.name for t in queue.waiters] == ["one", "two"]
            ready.append(1)
            queue.wake_all()

        for name in ("one", "two"):
            rt.spawn(name, sleeper)
        rt.spawn("waker", waker)

    assert {verdict_of(rt) for rt in random_runs(build, 30)} == {CLEAN}


@pytest.mark.parametrize("wait", ["killable", "interruptible"])
def test_a_signal_ends_a_wait_with_eintr_unless_the_condition_holds(wait):
    def build(rt):
        queue, ready, got = WaitQueue("q"), [], []

        async def sleeper():
            got.append(await queue.wait_event(lambda: bool(ready), wait=wait))

        async def killer():
            await point("signal.send")
            thread.signal_fatal()
            await point("ready.set")
            ready.append(1)
            queue.wake_all()

        thread = rt.spawn("sleeper", sleeper)
        rt.spawn("killer", killer)
        return lambda: (got[0], len(queue.waiters))

    assert set(exhaust(build)) == {(CLEAN, (0, 0)), (CLEAN, (EINTR, 0))}


def test_each_completion_lets_one_waiter_go():
    def build(completions):
        def spawn(rt):
            done = Completion("done")

            async def completer():
                for _ in range(completions):
                    await done.complete()

            for name in ("one", "two"):
                rt.spawn(name, done.wait)
            rt.spawn("completer", completer)
            return lambda: done.done

        return spawn

    assert set(exhaust(build(3), 2)) == {(CLEAN, 1)}
    assert {v for v, _ in exhaust(build(1), 2)} == {"deadlock"}


def test_a_completion_bound_to_a_thread_that_waits_for_us_closes_a_circle():
    def build(rt):
        mutex = Mutex("m", "M")

        async def waiter():
            await mutex.lock()
            await done.wait()
            await mutex.unlock()

        async def completer():
            await mutex.lock()
            await done.complete()
            await mutex.unlock()

        rt.spawn("waiter", waiter)
        done = Completion("done", binder=rt.spawn("completer", completer))

    for rt in random_runs(build, 40):
        if rt.finding is not None:
            assert set(rt.finding.threads) == {"waiter", "completer"}
            return
    pytest.fail("the circle was never closed")


def test_an_interruptible_or_timed_wait_closes_no_circle():
    """A killable wait in a circle is a deadlock, an interruptible one may yet be ended."""

    def build(wait):
        def spawn(rt):
            queue, threads = WaitQueue("q"), []

            async def user():
                others = [t for t in threads if t is not current()]
                await queue.wait_event(lambda: False, wait=wait, holders=lambda: others)

            threads.extend(rt.spawn(name, user) for name in ("one", "two"))

        return spawn

    assert play_once(build("killable"), Fifo()).finding.story[0].startswith("two waits at")
    quiet = play_once(build("interruptible"), Fifo())
    assert quiet.finding.verdict == "deadlock", "nothing can run, whoever might signal"
    assert quiet.finding.threads == ("one", "two"), "not as a circle that begins with the last"


def test_the_trace_says_who_did_what_in_order():
    def build(rt):
        mutex = Mutex("m", "M")
        rt.spawn("a", lambda: hold(mutex))

    assert schedule(play_once(build)) == "a.thread.start a.mutex.lock a.hold a.mutex.unlock"
