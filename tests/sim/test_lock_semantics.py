"""Locks do what the kernel's do, over all schedules of small programs."""

from __future__ import annotations

import errno

import pytest
from playing import CLEAN, exhaust, operation, play_once, random_runs, schedule, verdict_of

from mshv_async.sim import (
    Completion,
    Mutex,
    RwSem,
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


# -- reader/writer semaphore ---------------------------------------------------------------------


async def read(sem, log):
    await sem.down_read()
    log.append(f"+{current().name}")
    await step("reading")
    log.append(f"-{current().name}")
    await sem.up_read()


async def write(sem, log):
    await sem.down_write()
    log.append(f"+{current().name}")
    await step("writing")
    log.append(f"-{current().name}")
    await sem.up_write()


def test_readers_share_and_writers_exclude():
    def build(rt):
        sem, log = RwSem("s", "S"), []
        rt.spawn("w", lambda: write(sem, log))
        rt.spawn("r1", lambda: read(sem, log))
        rt.spawn("r2", lambda: read(sem, log))
        return lambda: tuple(log)

    seen = exhaust(build, 2)
    assert {v for v, _ in seen} == {CLEAN}
    together = 0
    for _, log in seen:
        at = log.index("+w")
        assert log[at + 1] == "-w"
        together += "+r1 +r2" in " ".join(log)
    assert together


def held_by_a_reader_while_a_writer_waits(barging, second):
    """``second`` arrives once the writer queues behind a reader."""

    def build(rt):
        sem, log = RwSem("s", "S", barging=barging), []

        async def first():
            await sem.down_read()
            current().rt.spawn("w", lambda: write(sem, log))
            while not sem.queue:
                await step("first.waits")
            spawned = current().rt.spawn("second", lambda: second(sem, log))
            while not spawned.finished and spawned.op.label != "rwsem.read_lock":
                await step("first.waits")
            for _ in range(5):
                await step("first.works")
            log.append("-first")
            await sem.up_read()

        rt.spawn("first", first)
        return lambda: tuple(log)

    return build


def logs(build, n=60):
    found = set()

    def wrapped(rt):
        result = build(rt)
        rt.later_result = result  # type: ignore[attr-defined]

    for rt in random_runs(wrapped, n):
        assert rt.finding is None
        found.add(rt.later_result())
    return found


def test_a_reader_that_arrives_behind_a_waiting_writer_waits_for_it():
    found = logs(held_by_a_reader_while_a_writer_waits(False, read))
    assert found == {("-first", "+w", "-w", "+second", "-second")}


def test_with_barging_a_reader_may_pass_a_waiting_writer():
    found = logs(held_by_a_reader_while_a_writer_waits(True, read))
    assert any(log.index("+second") < log.index("-first") for log in found)


def test_a_read_trylock_fails_behind_a_waiting_writer():
    async def trier(sem, log):
        log.append(await sem.down_read_trylock())

    found = logs(held_by_a_reader_while_a_writer_waits(False, trier))
    assert {log[0] for log in found} == {False}


def test_readers_that_queued_before_a_writer_may_go_before_it():
    """w1 holds, r queues, w2 queues: r need not wait for w2, though w2 may be quicker."""

    def build(rt):
        sem, log = RwSem("s", "S"), []

        async def holder():
            await sem.down_write()
            reader = current().rt.spawn("r", lambda: read(sem, log))
            while reader.op.label != "rwsem.read_lock":
                await step("holder.waits")
            writer = current().rt.spawn("w2", lambda: write(sem, log))
            while writer.op.label != "rwsem.write_lock":
                await step("holder.waits")
            await sem.up_write()

        rt.spawn("w1", holder)
        return lambda: tuple(log)

    assert logs(build) == {("+r", "-r", "+w2", "-w2"), ("+w2", "-w2", "+r", "-r")}


def test_a_reader_between_two_writers_waits_for_the_first_only():
    """A reader holds; w1, r, w2 queue in this order, w2 stays away: r goes after w1 or w2."""

    def build(rt):
        sem, log = RwSem("s", "S"), []

        async def holder():
            await sem.down_read()
            for name, body, label in (
                ("w1", write, "rwsem.write_lock"),
                ("r", read, "rwsem.read_lock"),
                ("w2", write, "rwsem.write_lock"),
            ):
                thread = current().rt.spawn(name, lambda body=body: body(sem, log))
                while thread.op.label != label:
                    await step("holder.waits")
            await sem.up_read()

        rt.spawn("holder", holder)
        return lambda: tuple(word for word in log if word[0] == "+")

    found = logs(build, 200)
    assert ("+w1", "+r", "+w2") in found
    assert ("+r", "+w1", "+w2") not in found


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_killed_waiter_leaves_the_semaphore_usable(kind):
    def build(rt):
        sem, got, log = RwSem("s", "S"), [], []

        async def victim():
            got.append(await getattr(sem, f"down_{kind}_killable")())
            if got[0] == 0:
                await getattr(sem, f"up_{kind}")()

        async def killer():
            await sem.down_write()
            await point("signal.send")
            thread.signal_fatal()
            await sem.up_write()
            await read(sem, log)

        thread = rt.spawn("victim", victim)
        rt.spawn("killer", killer)
        return lambda: (got[0], tuple(log), sem.queue, sem.readers, sem.writer)

    def freeze(rt):
        result = build(rt)
        return lambda: (*result()[:3], tuple(result()[3]), result()[4])

    rest = (("+killer", "-killer"), (), (), None)
    assert set(exhaust(freeze)) == {(CLEAN, (0, *rest)), (CLEAN, (EINTR, *rest))}


def test_readers_behind_a_killed_writer_go_on():
    def build(rt):
        sem, log = RwSem("s", "S"), []

        async def victim():
            assert await sem.down_write_killable() == EINTR
            log.append("killed")

        async def holder():
            await sem.down_read()
            writer = current().rt.spawn("victim", victim)
            while writer.op.label != "rwsem.write_lock":
                await step("holder.waits")
            current().rt.spawn("r", lambda: read(sem, log))
            await point("signal.send")
            writer.signal_fatal()
            while "-r" not in log:  # would wait for ever if the dead writer still blocked
                await step("holder.waits")
            await sem.up_read()

        rt.spawn("holder", lambda: operation(holder()))
        return lambda: tuple(log)

    assert logs(build) == {("killed", "+r", "-r")}


def test_a_downgrade_lets_readers_in_and_writers_not():
    def build(rt):
        sem, log = RwSem("s", "S"), []

        async def downgrader():
            await sem.down_write()
            await step("d.writes")
            await sem.downgrade_write()
            log.append("+d")
            await step("d.reads")
            log.append("-d")
            await sem.up_read()

        rt.spawn("d", downgrader)
        rt.spawn("r", lambda: read(sem, log))
        rt.spawn("w", lambda: write(sem, log))
        return lambda: " ".join(log)

    seen = exhaust(build, 2)
    assert {v for v, _ in seen} == {CLEAN}
    assert any("+d +r" in log for _, log in seen)
    assert not any("+d +w" in log or "+w +d" in log for _, log in seen)


@pytest.mark.parametrize("release", ["up_read", "up_write", "downgrade_write"])
def test_releasing_a_semaphore_that_is_not_held_is_an_oops(release):
    async def user():
        await getattr(RwSem("s", "S"), release)()

    assert play_once(lambda rt: void(rt.spawn("one", user))).finding.verdict == "oops"


def test_write_trylock_needs_a_free_semaphore():
    def build(rt):
        sem, log, got = RwSem("s", "S"), [], []

        async def trier():
            got.append(await sem.down_write_trylock())
            if got[0]:
                await sem.up_write()

        rt.spawn("r", lambda: read(sem, log))
        rt.spawn("t", trier)
        return lambda: got[0]

    assert {r for _, r in exhaust(build)} == {True, False}


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
