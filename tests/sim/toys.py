"""Toy programs, each faulty and correct; nothing here knows of memory or hypervisors.

``toy(correct)`` returns what spawns the threads. The faulty form shows the verdict in ``TOYS`` in
at least one schedule, the correct form is silent in all.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from playing import operation

from mshv_async.sim import (
    SLEEP,
    UNINIT,
    Mailbox,
    Mutex,
    Op,
    Rcu,
    Refcount,
    RwSem,
    Shared,
    SharedDict,
    SpinLock,
    WaitQueue,
    checked_call,
    choose,
    cond_resched,
    current,
    do,
    kfree,
    kzalloc,
    point,
    step,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.sim import Runtime, Thread

    Build = Callable[[Runtime], None]


class Gate(Shared):
    """A flag, a count, and sleepers who wait for them."""

    __slots__ = ("count", "open", "queue")

    def __init__(self, name: str = "gate") -> None:
        super().__init__(name)
        self.open = False
        self.count = 0
        self.queue = WaitQueue(f"{name}.queue")


class Box(Shared):
    """An object that can be freed."""

    __slots__ = ("refs", "value")
    _embedded = ("refs",)

    def __init__(self, name: str = "box", refs: int = 1) -> None:
        super().__init__(name)
        self.value = 7
        self.refs = Refcount(f"{name}.refs", refs)


def two_locks(correct: bool) -> Build:
    """Two threads take two mutexes, the second in the other order."""

    async def take(first: Mutex, second: Mutex) -> None:
        await first.lock()
        await second.lock()
        await second.unlock()
        await first.unlock()

    def build(rt: Runtime) -> None:
        a, b = Mutex("a", "A"), Mutex("b", "B")
        rt.spawn("one", lambda: operation(take(a, b)))
        rt.spawn("two", lambda: operation(take(a, b) if correct else take(b, a)))

    return build


def wake_up(correct: bool) -> Build:
    """A sleeper tests, and only then queues: the wake-up in between is lost."""

    async def wait_in_two_steps(gate: Gate) -> None:
        await step("gate.test", gate)
        if gate.open:
            return
        await do(Op("wait.prepare", gate.queue, kind=SLEEP))
        thread = current()
        thread.woken = False
        gate.queue.waiters = [*gate.queue.waiters, thread]
        await do(Op("wait.sleep", gate.queue, kind=SLEEP, guard=lambda t: t.woken))

    async def wait_in_one(gate: Gate) -> None:
        await gate.queue.wait_event(lambda: gate.open)

    async def opener(gate: Gate) -> None:
        await point("gate.open", gate)
        gate.open = True
        gate.queue.wake_up()

    def build(rt: Runtime) -> None:
        gate = Gate()
        waiter = wait_in_one if correct else wait_in_two_steps
        rt.spawn("sleeper", lambda: operation(waiter(gate)))
        rt.spawn("opener", lambda: operation(opener(gate)))

    return build


def recursive_read(correct: bool) -> Build:
    """A reader takes the semaphore again while a writer waits for it."""

    async def reader(sem: RwSem) -> None:
        await sem.down_read()
        if not correct:
            await sem.down_read()
            await sem.up_read()
        await sem.up_read()

    async def writer(sem: RwSem) -> None:
        await sem.down_write()
        await sem.up_write()

    def build(rt: Runtime) -> None:
        sem = RwSem("sem", "SEM")
        rt.spawn("reader", lambda: operation(reader(sem)))
        rt.spawn("writer", lambda: operation(writer(sem)))

    return build


def full_mailboxes(correct: bool) -> Build:
    """Two actors each send two messages before they read: with room for one both wait."""

    async def actor(inbox: Mailbox[int], outbox: Mailbox[int]) -> None:
        await outbox.send(1)
        await outbox.send(2)
        got = [await inbox.receive(), await inbox.receive()]
        assert got == [1, 2], "messages of one sender arrive in order"

    def build(rt: Runtime) -> None:
        capacity = 2 if correct else 1
        left = Mailbox[int]("left", capacity)
        right = Mailbox[int]("right", capacity)
        rt.spawn("left", lambda: operation(actor(left, right)))
        rt.spawn("right", lambda: operation(actor(right, left)))

    return build


def philosophers(correct: bool, n: int = 3) -> Build:
    """Each takes the left fork first; correct: one of them the right one."""

    async def dine(first: Mutex, second: Mutex) -> None:
        await first.lock()
        await second.lock()
        await second.unlock()
        await first.unlock()

    def build(rt: Runtime) -> None:
        forks = [Mutex(f"fork{i}", "FORK") for i in range(n)]
        for i in range(n):
            pair = (forks[i], forks[(i + 1) % n])
            if correct and i == n - 1:
                pair = (pair[1], pair[0])
            rt.spawn(f"philosopher{i}", partial(operation_of, dine, *pair))

    return build


async def operation_of(body: Callable[..., object], *args: object) -> None:
    """As ``operation``, for a body that is not called yet."""
    await operation(body(*args))


def grace_period(correct: bool) -> Build:
    """A box is taken out of a table and freed while a reader may still look at it."""

    async def reader(rcu: Rcu, table: SharedDict[int, Box]) -> None:
        await step("table.lookup", table)
        section = rcu.read_lock()
        box = table.get(0)
        if box is not None:
            await step("box.read", box)
            assert box.value == 7
        rcu.read_unlock(section)

    async def remover(rcu: Rcu, table: SharedDict[int, Box]) -> None:
        await point("table.remove", table)
        box = table.pop(0)
        assert box is not None
        if correct:
            await rcu.synchronize()
        await kfree(box)

    def build(rt: Runtime) -> None:
        rcu, table = Rcu("rcu"), SharedDict[int, Box]("table")
        table[0] = kzalloc(Box)
        rt.spawn("reader", lambda: operation(reader(rcu, table)))
        rt.spawn("remover", lambda: operation(remover(rcu, table)))

    return build


def retry_loop(correct: bool) -> Build:
    """An update that compares and retries; the faulty one never reads the count again."""

    async def update(gate: Gate) -> None:
        await step("count.read", gate)
        seen = gate.count
        while True:
            await point("count.exchange", gate)
            if gate.count == seen:
                gate.count += 1
                return
            await cond_resched()
            if correct:
                await step("count.read", gate)
                seen = gate.count

    def build(rt: Runtime) -> None:
        gate = Gate()
        rt.spawn("one", lambda: operation(update(gate)))
        rt.spawn("two", lambda: operation(update(gate)))

    return build


def sleep_under_spinlock(correct: bool) -> Build:
    """A mutex is taken inside a spinlock section."""

    async def work(spin: SpinLock, mutex: Mutex) -> None:
        if correct:
            await mutex.lock()
            await spin.lock()
            spin.unlock()
        else:
            await spin.lock()
            await mutex.lock()
            spin.unlock()
        await mutex.unlock()

    def build(rt: Runtime) -> None:
        spin, mutex = SpinLock("spin", "SPIN"), Mutex("mutex", "MUTEX")
        rt.spawn("one", lambda: operation(work(spin, mutex)))
        rt.spawn("two", lambda: operation(work(spin, mutex)))

    return build


def error_path(correct: bool) -> Build:
    """An ioctl returns early when its allocation fails, and forgets the mutex."""

    async def do_ioctl(mutex: Mutex) -> int:
        await mutex.lock()
        if choose("alloc.fails", 2):
            if correct:
                await mutex.unlock()
            return -errno.ENOMEM
        await mutex.unlock()
        return 0

    async def user(mutex: Mutex) -> None:
        await checked_call("ioctl", do_ioctl(mutex))
        await step("user.next")

    def build(rt: Runtime) -> None:
        mutex = Mutex("region3.mutex", "REGION")
        rt.spawn("user", lambda: operation(user(mutex)))

    return build


def stranger(correct: bool) -> Build:
    """A thread releases the mutex that another one holds."""

    async def owner(mutex: Mutex) -> None:
        await mutex.lock()
        await step("owner.works")
        await mutex.unlock()

    async def other(mutex: Mutex) -> None:
        if correct:
            await mutex.lock()
        await mutex.unlock()

    def build(rt: Runtime) -> None:
        mutex = Mutex("mutex", "MUTEX")
        rt.spawn("owner", lambda: operation(owner(mutex)))
        rt.spawn("other", lambda: operation(other(mutex)))

    return build


def last_reference(correct: bool) -> Build:
    """Two threads share a box; the faulty one frees it without asking the count."""

    async def user(box: Box) -> None:
        await step("box.use", box)
        assert box.value == 7
        await put(box)

    async def put(box: Box) -> None:
        await point("box.put", box.refs)
        if box.refs.dec_and_test() or not correct:
            await kfree(box)

    def build(rt: Runtime) -> None:
        box = kzalloc(Box, refs=2)
        rt.spawn("one", lambda: operation(user(box)))
        rt.spawn("two", lambda: operation(user(box)))

    return build


def uninitialised(correct: bool) -> Build:
    """A local is assigned on one branch only."""

    async def work() -> None:
        found = 0 if correct else UNINIT
        if choose("lookup.fails", 2) == 0:
            found = 3
        await step("work.between")
        if found > 2:
            await step("work.found")

    def build(rt: Runtime) -> None:
        rt.spawn("one", lambda: operation(work()))

    return build


def pulse(correct: bool) -> Build:
    """A thread that runs for ever opens the gate, wakes, and shuts it again at once."""

    async def waiter(gate: Gate) -> None:
        await gate.queue.wait_event(lambda: gate.open)

    async def pulsing(gate: Gate) -> None:
        while not current().rt.closing:
            await point("gate.pulse", gate)
            gate.open = True
            gate.queue.wake_all()
            gate.open = correct

    def build(rt: Runtime) -> None:
        gate = Gate()
        rt.spawn("waiter", lambda: operation(waiter(gate)))
        rt.spawn("pulsing", lambda: pulsing(gate), forever=True)

    return build


def killed_waiter(correct: bool) -> Build:
    """The owner of a mutex waits until the thread that it killed has left.

    Correct: the victim waits killably, takes -EINTR and leaves.
    """

    async def victim(mutex: Mutex, gate: Gate) -> None:
        if correct:
            if await mutex.lock_killable() == 0:
                await mutex.unlock()
        else:
            await mutex.lock()
            await mutex.unlock()
        await point("victim.leaves", gate)
        gate.open = True
        gate.queue.wake_all()

    async def killer(mutex: Mutex, gate: Gate, of: list[Thread]) -> None:
        await mutex.lock()
        await point("signal.send")
        of[0].signal_fatal()
        await gate.queue.wait_event(lambda: gate.open, holders=lambda: of)
        await mutex.unlock()

    def build(rt: Runtime) -> None:
        mutex, gate = Mutex("mutex", "MUTEX"), Gate()
        of: list[Thread] = []
        of.append(rt.spawn("victim", lambda: operation(victim(mutex, gate))))
        rt.spawn("killer", lambda: operation(killer(mutex, gate, of)))

    return build


class Toy(NamedTuple):
    """A toy, what its faulty form comes to at worst, and a stable piece of that title."""

    make: Callable[[bool], Build]
    verdict: str
    title: str


TOYS: dict[str, Toy] = {
    "two locks": Toy(two_locks, "deadlock", "deadlock: take(mutex.lock)"),
    "lost wake-up": Toy(wake_up, "deadlock", "wait_in_two_steps(wait.sleep)"),
    "recursive read": Toy(recursive_read, "deadlock", "reader(rwsem.read_lock)"),
    "full mailboxes": Toy(full_mailboxes, "deadlock", "actor(mailbox.send)"),
    "philosophers": Toy(philosophers, "deadlock", "dine(mutex.lock)"),
    "grace period": Toy(grace_period, "use-after-free", "reader / remover (box)"),
    "retry loop": Toy(retry_loop, "livelock", "livelock: "),
    "sleep under spinlock": Toy(sleep_under_spinlock, "sleep-in-atomic", "work (mutex.lock)"),
    "error path": Toy(error_path, "lost-unlock", "do_ioctl (region.mutex)"),
    "stranger": Toy(stranger, "oops", "other (mutex)"),
    "last reference": Toy(last_reference, "use-after-free", "(box"),
    "uninitialised": Toy(uninitialised, "oops", "work (use of an uninitialised value)"),
    "pulse": Toy(pulse, "starvation", "waiter (wait.sleep)"),
    "killed waiter": Toy(killed_waiter, "deadlock", "victim(mutex.lock)"),
}

__all__ = ["TOYS", "Box", "Gate", "Toy"]
