"""Operations that a thread declares before it may go on.

An operation names what the next step begins with: a label, the object it is about, a half-open
range of it, read or write. A guard says when it can happen; until then the thread waits.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mshv_async.sim.thread import Thread


_attribute = object.__getattribute__


class Kind(IntEnum):
    """What the processor does at a scheduling point."""

    PREEMPT = 0  # another processor may run
    SPIN = 1  # this one waits without sleeping
    SLEEP = 2  # the thread may sleep: illegal in atomic context even if it would not


PREEMPT, SPIN, SLEEP = Kind.PREEMPT, Kind.SPIN, Kind.SLEEP

UNINTERRUPTIBLE = "uninterruptible"
KILLABLE = "killable"
INTERRUPTIBLE = "interruptible"


class Op:
    """One declared operation; immutable, and shared between steps where nothing varies.

    ``guard(thread)`` says whether the operation can happen now; ``holders()`` names the threads
    that can make it true (``None``: unknown). ``wait`` tells which signals end the wait. ``idle``:
    while the guard is false nobody need look at it, for whoever makes it true calls
    :meth:`~mshv_async.sim.runtime.Runtime.rouse`. ``commutes``: operations of the same word on one
    object may change places. ``arrives``: others can see that a thread stands here; ``looks``:
    this operation looks who does.
    """

    __slots__ = (
        "arrives",
        "commutes",
        "guard",
        "hi",
        "holders",
        "idle",
        "interruptible",
        "kind",
        "label",
        "lo",
        "looks",
        "obj",
        "timed",
        "wait",
        "write",
        "yields",
    )

    def __init__(
        self,
        label: str,
        obj: Any = None,
        lo: int = 0,
        hi: int = 0,
        write: bool = True,
        kind: Kind = PREEMPT,
        guard: Callable[[Thread], bool] | None = None,
        holders: Callable[[], Sequence[Thread]] | None = None,
        wait: str = UNINTERRUPTIBLE,
        yields: bool = False,
        timed: bool = False,
        idle: bool = False,
        commutes: str = "",
        arrives: bool = False,
        looks: bool = False,
    ) -> None:
        self.label = label
        self.obj = obj
        self.lo = lo
        self.hi = hi
        self.write = write
        self.kind = kind
        self.guard = guard
        self.holders = holders
        self.wait = wait
        self.interruptible = wait != UNINTERRUPTIBLE
        self.yields = yields
        self.timed = timed
        self.idle = idle
        self.commutes = commutes
        self.arrives = arrives
        self.looks = looks

    @property
    def object_name(self) -> str:
        """The name of the object, readable even after it was freed."""
        return "" if self.obj is None else _attribute(self.obj, "name")

    def line(self) -> str:
        """Give the operation as it stands in digests and in the columns."""
        rng = f" {self.lo:#x}-{self.hi:#x}" if self.hi > self.lo else ""
        return f"{self.label} {self.object_name}{rng} {'w' if self.write else 'r'}"


def conflict(a: Op, b: Op) -> bool:
    """Say whether the order of two declared operations can matter: same state, one a write.

    An operation without a range is about the whole object; without an object, about nothing.
    """
    if a.obj is None or a.obj is not b.obj or not (a.write or b.write):
        return False
    if a.commutes and a.commutes == b.commutes:
        return False
    return a.hi <= a.lo or b.hi <= b.lo or (a.lo < b.hi and b.lo < a.hi)
