"""The mmu_interval_notifier and the bracket around invalidations (spec.md 1.4 and 2).

All of the per-mm state is guarded by one spinlock whose sections are single steps here, declared
on :class:`NotifierSubscriptions`. While the sequence is odd the tree is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import IntEnum
from errno import EAGAIN
from typing import TYPE_CHECKING, Any, NamedTuple

from mshv_async.host.page import PAGE_SHIFT, PAGE_SIZE
from mshv_async.sim import (
    PREEMPT,
    SLEEP,
    Op,
    Seq,
    Shared,
    WaitQueue,
    checked_call,
    current,
    do,
    note,
    oops,
    probe,
    warn,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.host.mm import Mm
    from mshv_async.sim import Thread

Invalidate = Callable[["MmuIntervalNotifier", "MmuNotifierRange", Seq], Coroutine[Any, Any, bool]]
"""A callback: ``await invalidate(mni, range, cur_seq)``; True: the mirror is clean."""


class NotifierEvent(IntEnum):
    """Why an address range is invalidated (spec.md 2.4)."""

    UNMAP = 0
    CLEAR = 1
    PROTECTION_VMA = 2
    PROTECTION_PAGE = 3
    SOFT_DIRTY = 4
    RELEASE = 5
    MIGRATE = 6
    EXCLUSIVE = 7


class MmuNotifierRange(NamedTuple):
    """What is invalidated: bytes ``[start, end)`` of an mm. Each subscriber has to clamp it."""

    mm: Mm
    start: int
    end: int
    event: NotifierEvent
    blockable: bool = True

    def overlaps(self, mni: MmuIntervalNotifier) -> bool:
        """Whether it touches the subscription's interval."""
        return mni.first < self.end and self.start <= mni.last


def mmu_notifier_range_blockable(range: MmuNotifierRange) -> bool:
    """Whether a callback for this range may sleep."""
    return range.blockable


class NotifierSubscriptions(Shared):
    """Notifier state of one mm. ``owners``: whose brackets are open, for the wait-for graph.

    ``itree`` is ordered by start address. ``deferred``: inserts (not in the tree yet) and removes
    (still in it) that wait for the sequence to turn even.
    """

    __slots__ = (
        "active_invalidate_ranges",
        "deferred",
        "invalidate_seq",
        "itree",
        "op_end",
        "op_read_begin",
        "op_remove",
        "owners",
        "wq",
    )
    _embedded = ("wq",)
    _const = ("op_end", "op_read_begin", "op_remove", *_embedded)
    _sync = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.invalidate_seq = Seq(2)
        self.active_invalidate_ranges = 0
        self.itree: tuple[MmuIntervalNotifier, ...] = ()
        self.deferred: tuple[MmuIntervalNotifier, ...] = ()
        self.owners: tuple[Thread, ...] = ()
        self.wq = WaitQueue(f"{name}.wq", together=True)
        self.op_end = Op("notifier.end", self)
        self.op_read_begin = Op("notifier.read_begin", self, write=False, kind=SLEEP)
        self.op_remove = Op("notifier.remove", self, kind=SLEEP)

    def bracket_owners(self) -> Sequence[Thread]:
        """Return the threads that can turn the sequence even."""
        return self.owners

    def link(self, mni: MmuIntervalNotifier) -> None:
        """Put a subscription into the tree."""
        tree = [*self.itree, mni]
        tree.sort(key=_first)
        self.itree = tuple(tree)
        probe("mni.insert", mni)

    def unlink(self, mni: MmuIntervalNotifier) -> None:
        """Take a subscription out of the tree."""
        self.itree = tuple(other for other in self.itree if other is not mni)
        probe("mni.remove", mni)


def _first(mni: MmuIntervalNotifier) -> int:
    return mni.first


class MmuIntervalNotifier(Shared):
    """A subscription to the bytes ``first`` … ``last`` (inclusive) of an mm.

    Zeroed memory until it is inserted. ``invalidate_seq`` is odd from then on.
    """

    __slots__ = (
        "first",
        "invalidate_seq",
        "last",
        "mm",
        "op_check",
        "op_retry",
        "op_set",
        "ops",
    )
    _const = ("op_check", "op_retry", "op_set")
    _sync = True
    _parts = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.mm: Mm | None = None
        self.first = 0
        self.last = 0
        self.ops: Invalidate | None = None
        self.invalidate_seq = Seq(0)
        self.op_check = Op("notifier.check_retry", self, write=False)
        self.op_retry = Op("notifier.read_retry", self, write=False)
        self.op_set = Op("notifier.set_seq", self)

    @property
    def subscriptions(self) -> NotifierSubscriptions:
        """The state of its mm; ``oops`` before insertion."""
        if self.mm is None or self.mm.subscriptions is None:
            oops("NULL mm of a notifier that was never inserted", self)
        return self.mm.subscriptions


class SeqMoved:
    """The condition that readers and removers sleep for."""

    __slots__ = ("seq", "subscriptions")

    def __init__(self, subscriptions: NotifierSubscriptions, seq: Seq) -> None:
        self.subscriptions = subscriptions
        self.seq = seq

    def __call__(self) -> bool:
        """Whether the mm's sequence is another one by now."""
        return self.subscriptions.invalidate_seq != self.seq


# -- the reader ------------------------------------------------------------------------------


async def mmu_interval_read_begin(mni: MmuIntervalNotifier) -> Seq:
    """Return the sequence to retry against; sleeps while a bracket that hit ``mni`` is open.

    Uninterruptible. The caller must hold nothing that a callback may need (spec.md 2.2).
    """
    subscriptions = mni.subscriptions
    await do(subscriptions.op_read_begin)
    seq = mni.invalidate_seq
    if seq == subscriptions.invalidate_seq:
        await subscriptions.wq.wait_event(
            SeqMoved(subscriptions, seq), holders=subscriptions.bracket_owners
        )
    return seq


async def mmu_interval_read_retry(mni: MmuIntervalNotifier, seq: Seq) -> bool:
    """Whether an invalidation passed since ``seq``; exact under the lock of the callback."""
    await do(mni.op_retry)
    return mni.invalidate_seq != seq


async def mmu_interval_check_retry(mni: MmuIntervalNotifier, seq: Seq) -> bool:
    """As read_retry, without the lock: True is reliable, False a hint."""
    await do(mni.op_check)
    return mni.invalidate_seq != seq


async def mmu_interval_set_seq(mni: MmuIntervalNotifier, cur_seq: Seq) -> None:
    """Tell readers that their pages may be stale. From the callback, under the user lock."""
    await do(mni.op_set)
    mni.invalidate_seq = cur_seq
    probe("subseq.change", mni)


# -- the bracket -----------------------------------------------------------------------------


async def invalidate_range_start(range: MmuNotifierRange) -> int:
    """Open a bracket and run the callbacks; sleeps if the range is blockable.

    0: the caller changes the entries and calls :func:`invalidate_range_end`. -EAGAIN: a callback
    refused a non-blockable range; the bracket is closed already, and nothing may be changed.
    """
    subscriptions = range.mm.subscriptions
    if subscriptions is None:
        return 0
    cur_seq, hit = await _open(subscriptions, range)
    if not await _call_all(range, cur_seq, hit):
        await _close(subscriptions, range, -EAGAIN)
        return -EAGAIN
    probe("bracket.start", range, 0)
    return 0


async def invalidate_range_end(range: MmuNotifierRange) -> None:
    """Close a bracket; the last one turns the sequence even and wakes the readers."""
    subscriptions = range.mm.subscriptions
    if subscriptions is not None:
        await _close(subscriptions, range)


async def release_notifiers(mm: Mm) -> None:
    """Tell every subscription that the address space dies; they stay in the tree (spec.md 1.6)."""
    everything = MmuNotifierRange(mm, 0, (1 << 64) - 1, NotifierEvent.RELEASE)
    if await invalidate_range_start(everything) == 0:
        await invalidate_range_end(everything)


async def _open(
    subscriptions: NotifierSubscriptions, range: MmuNotifierRange
) -> tuple[Seq, tuple[MmuIntervalNotifier, ...]]:
    lo, hi = range.start >> PAGE_SHIFT, (range.end + PAGE_SIZE - 1) >> PAGE_SHIFT
    kind = SLEEP if range.blockable else PREEMPT
    await do(Op("notifier.start", subscriptions, lo, hi, kind=kind))
    subscriptions.active_invalidate_ranges += 1
    subscriptions.owners = (*subscriptions.owners, current())
    hit = tuple(mni for mni in subscriptions.itree if range.overlaps(mni))
    seq = subscriptions.invalidate_seq
    if hit and not seq.odd:
        subscriptions.invalidate_seq = seq = seq.next()
        probe("seq.change", subscriptions)
    probe("bracket.begin", range)
    note(
        "notifier.start",
        event_type=range.event.name,
        start=range.start,
        end=range.end,
        blockable=range.blockable,
        subscribers=len(hit),
    )
    return seq, hit


async def _call_all(
    range: MmuNotifierRange, cur_seq: Seq, hit: tuple[MmuIntervalNotifier, ...]
) -> bool:
    thread = current()
    for mni in hit:
        callback = mni.ops
        if callback is None:
            oops("notifier without ops", mni)
        probe("callback.enter", mni, range)
        if range.blockable:
            ok = await checked_call("callback", callback(mni, range, cur_seq))
        else:
            thread.nonblock_depth += 1
            ok = await checked_call("callback", callback(mni, range, cur_seq))
            thread.nonblock_depth -= 1
        probe("callback.return", mni, range, ok)
        if ok:
            continue
        if not range.blockable:
            return False
        warn("mmu_interval_notifier: callback refused a blockable range")
    return True


async def _close(
    subscriptions: NotifierSubscriptions, range: MmuNotifierRange, refused: int = 0
) -> None:
    await do(subscriptions.op_end)
    if refused:
        probe("bracket.start", range, refused)
    subscriptions.active_invalidate_ranges -= 1
    owners = list(subscriptions.owners)
    if current() in owners:  # the core counts; who ended one bracket too many is not its concern
        owners.remove(current())
    subscriptions.owners = tuple(owners)
    probe("bracket.end", range)
    note("notifier.end", start=range.start, end=range.end, ret=refused)
    if subscriptions.active_invalidate_ranges or not subscriptions.invalidate_seq.odd:
        return
    subscriptions.invalidate_seq = subscriptions.invalidate_seq.next()
    probe("seq.change", subscriptions)
    for mni in subscriptions.deferred:
        if mni in subscriptions.itree:
            subscriptions.unlink(mni)
        else:
            subscriptions.link(mni)
    subscriptions.deferred = ()
    subscriptions.wq.wake_all()
