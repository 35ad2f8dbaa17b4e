"""The kernel's locks: mutex and spinlock; reader/writer semaphores are in rwsem.py.

Acquiring is one guarded operation: enabled while the lock is free; who gets it is the
scheduler's decision, in timed and real-time mode arrival order.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from mshv_async.sim.current import current
from mshv_async.sim.faults import oops
from mshv_async.sim.lockorder import Edge
from mshv_async.sim.op import KILLABLE, SLEEP, Op
from mshv_async.sim.shared import Shared
from mshv_async.sim.thread import Thread, do, park

if TYPE_CHECKING:
    from collections.abc import Sequence


def acquired(thread: Thread, lock: Any, *, tried: bool = False) -> None:
    """Enter a lock into the thread's list, and its class into the lock-order graph.

    ``tried``: taken without readiness to wait, which closes no cycle, so it orders no classes.
    """
    if thread.held and not tried:
        rt = thread.rt
        edges = rt.lock_order.edges
        for outer in thread.held:
            if (outer.cls, lock.cls) not in edges:
                rt.lock_order.acquired(Edge(outer.cls, lock.cls, thread.name, rt.steps))
    thread.held.append(lock)
    if thread.rt.notes is not None:
        thread.rt.note("lock.acquire", {"lock": lock.name, "lock_class": lock.cls})


def released(thread: Thread, lock: Any) -> None:
    """Take a lock off the thread's list."""
    if lock in thread.held:
        thread.held.remove(lock)
    if "lock.release" in thread.rt.watchers:
        thread.rt.probe("lock.release", lock)
    if thread.rt.notes is not None:
        thread.rt.note("lock.release", {"lock": lock.name, "lock_class": lock.cls})


def waits(thread: Thread, lock: Any) -> None:
    """Note, for the log, that a thread found a lock taken."""
    if thread.rt.notes is not None:
        thread.rt.note("lock.wait", {"lock": lock.name, "lock_class": lock.cls})


class Mutex(Shared):
    """A sleeping lock with one owner. ``cls`` is its lock class.

    Taking it again waits for oneself; releasing another's is ``oops``. Made by :meth:`zeroed` it
    is memory that ``mutex_init`` has not seen: a lone user gets by, a second one follows the
    NULL list pointers.
    """

    __slots__ = ("_lock", "_unlock", "cls", "initialised", "owner")
    _const = ("_lock", "_unlock", "cls")
    _sync = True
    _guards = ("_free",)

    def __init__(self, name: str, cls: str, *, initialised: bool = True) -> None:
        super().__init__(name)
        self.cls = cls
        self.owner: Thread | None = None
        self.initialised = initialised
        self._lock = Op("mutex.lock", self, kind=SLEEP, guard=self._free, holders=self._owners)
        self._unlock = Op("mutex.unlock", self)

    @classmethod
    def zeroed(cls, name: str, lock_class: str) -> Mutex:
        """Return a mutex in zeroed memory, before ``mutex_init``."""
        return cls(name, lock_class, initialised=False)

    def init(self) -> None:
        """Initialise (again): whoever held it no longer does."""
        self.owner = None
        self.initialised = True

    def _free(self, thread: Thread | None) -> bool:
        # Waiting needs the wait list; in zeroed memory the attempt itself faults.
        del thread
        return self.owner is None or not self.initialised

    def _owners(self) -> Sequence[Thread]:
        return () if self.owner is None else (self.owner,)

    def _take(self, thread: Thread, *, tried: bool = False) -> None:
        if self.owner is not None:
            oops(f"{self.name} contended before its initialisation", self)
        self.owner = thread
        acquired(thread, self, tried=tried)

    async def lock(self) -> None:
        """Acquire, waiting uninterruptibly."""
        thread = current()
        op = self._lock
        if thread.rt.notes is not None and self.owner is not None:
            waits(thread, self)
        if thread.rt.arrive(thread, op):
            await park(thread.parker)  # type: ignore[arg-type]
        self._take(thread)

    async def lock_killable(self) -> int:
        """Acquire; -EINTR when a fatal signal ends the wait."""
        thread = current()
        if thread.rt.notes is not None and self.owner is not None:
            waits(thread, self)
        op = Op(
            "mutex.lock", self, kind=SLEEP, guard=self._free, holders=self._owners, wait=KILLABLE
        )
        if not await do(op):
            return -errno.EINTR
        self._take(thread)
        return 0

    async def trylock(self) -> bool:
        """Acquire if free at this moment."""
        thread = current()
        if thread.rt.arrive(thread, Op("mutex.trylock", self)):
            await park(thread.parker)  # type: ignore[arg-type]
        if self.owner is not None:
            return False
        self._take(thread, tried=True)
        return True

    async def unlock(self) -> None:
        """Release; ``oops`` if the current thread is not the owner."""
        thread = current()
        if thread.rt.arrive(thread, self._unlock):
            await park(thread.parker)  # type: ignore[arg-type]
        if self.owner is not thread:
            oops(f"{self.name} released by {thread.name}, which does not own it", self)
        self.owner = None
        released(thread, self)


class SpinLock(Shared):
    """A spinlock. What stands between lock and unlock is one step, so it has no points inside."""

    __slots__ = ("_lock", "cls", "owner")
    _const = ("_lock", "cls")
    _sync = True

    def __init__(self, name: str, cls: str) -> None:
        super().__init__(name)
        self.cls = cls
        self.owner: Thread | None = None
        self._lock = Op("spin.lock", self, guard=self._free, holders=self._owners)

    def _free(self, thread: Thread) -> bool:
        del thread
        return self.owner is None

    def _owners(self) -> Sequence[Thread]:
        return () if self.owner is None else (self.owner,)

    async def lock(self) -> None:
        """Acquire; from here to :meth:`unlock` the thread is atomic."""
        thread = current()
        if thread.rt.arrive(thread, self._lock):
            await park(thread.parker)  # type: ignore[arg-type]
        self.owner = thread
        thread.spins += 1
        acquired(thread, self)

    def unlock(self) -> None:
        """Release, in the same step."""
        thread = current()
        if self.owner is not thread:
            oops(f"{self.name} released by {thread.name}, which does not own it", self)
        self.owner = None
        thread.spins -= 1
        released(thread, self)


def irq_save() -> None:
    """Switch interrupts off on the current thread's processor."""
    current().irqs_off += 1


def irq_restore() -> None:
    """Switch interrupts back on."""
    thread = current()
    assert thread.irqs_off > 0, "interrupts were not off"
    thread.irqs_off -= 1
