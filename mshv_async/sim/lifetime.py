"""Allocation and freeing of modelled objects, reference counts, and read-copy-update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mshv_async.sim.current import current, current_or_none
from mshv_async.sim.faults import oops
from mshv_async.sim.op import SLEEP, Op
from mshv_async.sim.shared import Shared, is_freed, poison
from mshv_async.sim.thread import Thread, do

if TYPE_CHECKING:
    from collections.abc import Sequence

S = TypeVar("S", bound=Shared)


def kzalloc(cls: type[S], *args: Any, **kwargs: Any) -> S:
    """Allocate a modelled object; cannot fail and is no scheduling point."""
    obj = cls(*args, **kwargs)
    thread = current_or_none()
    if thread is not None:
        thread.rt.probe("object.alloc", obj)
    return obj


async def kfree(obj: Shared) -> None:
    """Free an object and what is embedded in it; any later use of it is ``use-after-free``."""
    thread = current()
    if is_freed(obj):
        poison(obj, thread.rt.place())
    await do(Op("free", obj))
    if is_freed(obj):  # by another thread, while this one was about to
        poison(obj, thread.rt.place())
    thread.rt.probe("object.free", obj)
    dead = poison(obj, thread.rt.place())
    for other in thread.rt.all_threads:
        # Whoever waits on freed memory goes on and meets it.
        op = other.op
        waits = not other.finished and op.guard is not None
        if waits and any(op.obj is victim for victim in dead):
            other.op = Op(op.label, op.obj, op.lo, op.hi, op.write, op.kind)
            thread.rt.rouse(other)


class Refcount(Shared):
    """A reference count. Its operations are atomic and order threads, but are no points."""

    __slots__ = ("count",)
    _sync = True

    def __init__(self, name: str, n: int = 1) -> None:
        super().__init__(name)
        self.count = n

    def inc(self) -> None:
        """Take a reference; ``oops`` if there is none left to build on."""
        if self.count <= 0:
            oops(f"{self.name} taken at zero", self)
        self.count += 1

    def inc_not_zero(self) -> bool:
        """Take a reference unless the count is zero."""
        if self.count == 0:
            return False
        self.count += 1
        return True

    def dec_and_test(self) -> bool:
        """Drop a reference; True for the last one."""
        if self.count <= 0:
            oops(f"{self.name} dropped below zero", self)
        self.count -= 1
        return self.count == 0


class _Section:
    """One open read-side section; identity only."""

    __slots__ = ("thread",)

    def __init__(self, thread: Thread) -> None:
        self.thread = thread


class Srcu(Shared):
    """Read sections and grace periods; readers may sleep. A grace period waits for the readers
    that were open at its start, not for later ones.
    """  # noqa: D205 - the two sentences belong together

    __slots__ = ("sections",)
    _sync = True
    _label = "srcu"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.sections: list[_Section] = []

    def read_lock(self) -> _Section:
        """Open a section; the result closes it."""
        section = _Section(current())
        self.sections = [*self.sections, section]
        return section

    def read_unlock(self, section: _Section) -> None:
        """Close a section."""
        if section not in self.sections:
            oops(f"{self.name}: section closed twice", self)
        self.sections = [s for s in self.sections if s is not section]

    async def synchronize(self) -> None:
        """Wait until all sections that are open now are closed."""
        await do(Op(f"{self._label}.grace_start", self, kind=SLEEP))
        before = list(self.sections)

        def over(thread: Thread) -> bool:
            del thread
            return not any(s in self.sections for s in before)

        def readers() -> Sequence[Thread]:
            return [s.thread for s in before if s in self.sections]

        await do(Op(f"{self._label}.grace_end", self, kind=SLEEP, guard=over, holders=readers))


class Rcu(Srcu):
    """Read-copy-update: as :class:`Srcu`, but a reader may not sleep."""

    __slots__ = ()
    _label = "rcu"

    def read_lock(self) -> _Section:
        """Open a section; sleeping in it is ``sleep-in-atomic``."""
        current().spins += 1
        return super().read_lock()

    def read_unlock(self, section: _Section) -> None:
        """Close a section."""
        current().spins -= 1
        super().read_unlock(section)
