"""Inserting and removing interval notifiers, also while the tree is frozen (spec.md 2.2)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mshv_async.host.mm import mmap_write_lock, mmap_write_unlock, mmdrop, mmgrab
from mshv_async.host.notifier import NotifierSubscriptions, SeqMoved
from mshv_async.host.page import ULONG_MAX
from mshv_async.sim import Op, current, do, injected, note, oops, probe, step, warn

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm
    from mshv_async.host.notifier import Invalidate, MmuIntervalNotifier


async def mmu_interval_notifier_insert(
    mni: MmuIntervalNotifier, mm: Mm, start: int, length: int, ops: Invalidate
) -> int:
    """Subscribe to ``length`` bytes from ``start``; a callback may come before this returns.

    -EOVERFLOW: empty, or beyond the address space. -EINVAL (with a WARN): the mm has no users.
    -ENOMEM, -EINTR: making the mm's notifier state failed, or is made to (``notifier.insert``).
    Takes mmap_lock for writing if the mm has no notifier state yet.
    """
    ret = await _make_subscriptions(mm)
    if ret:
        return ret
    return await _insert(mni, mm, start, length, ops)


async def mmu_interval_notifier_insert_locked(
    mni: MmuIntervalNotifier, mm: Mm, start: int, length: int, ops: Invalidate
) -> int:
    """As :func:`mmu_interval_notifier_insert`, with mmap_lock held for writing."""
    ret = await _make_subscriptions_locked(mm)
    if ret:
        return ret
    return await _insert(mni, mm, start, length, ops)


def insert_direct(
    mni: MmuIntervalNotifier, mm: Mm, start: int, length: int, ops: Invalidate
) -> None:
    """Subscribe while a world is set up: no points, nothing can fail."""
    if mm.subscriptions is None:
        mm.subscriptions = NotifierSubscriptions(f"{mm.name}.notifier")
    assert length > 0
    _fill(mni, mm, start, length, ops)
    _place(mm.subscriptions, mni)


async def mmu_interval_notifier_remove(mni: MmuIntervalNotifier) -> None:
    """Unsubscribe; sleeps until no callback runs. Afterwards none will run any more.

    Not to be called from a callback nor under a lock that a callback takes.
    """
    subscriptions = mni.subscriptions
    await do(subscriptions.op_remove)
    seq = subscriptions.invalidate_seq
    wait = False
    if not seq.odd:
        if mni not in subscriptions.itree:
            oops("notifier removed twice", mni)
        subscriptions.unlink(mni)
    elif mni in subscriptions.itree:
        subscriptions.deferred = (mni, *subscriptions.deferred)
        wait = True
    else:
        subscriptions.deferred = tuple(d for d in subscriptions.deferred if d is not mni)
    note("notifier.remove", notifier=mni.name, deferred=wait)
    if wait:
        await subscriptions.wq.wait_event(
            SeqMoved(subscriptions, seq), holders=subscriptions.bracket_owners
        )
    assert mni.mm is not None
    mmdrop(mni.mm)


def _fill(mni: MmuIntervalNotifier, mm: Mm, start: int, length: int, ops: Invalidate) -> None:
    mmgrab(mm)
    mni.mm = mm
    mni.ops = ops
    mni.first = start
    mni.last = start + length - 1


def _place(subscriptions: NotifierSubscriptions, mni: MmuIntervalNotifier) -> bool:
    """Put a subscription where it belongs; False: it is deferred (the table of spec.md 2.2)."""
    seq = subscriptions.invalidate_seq
    if not subscriptions.active_invalidate_ranges:
        assert not seq.odd, "odd without an open bracket"
        mni.invalidate_seq = seq.next(-1)
        subscriptions.link(mni)
        return True
    if seq.odd:
        mni.invalidate_seq = seq
        subscriptions.deferred = (mni, *subscriptions.deferred)
        return False
    subscriptions.invalidate_seq = mni.invalidate_seq = seq.next()
    probe("seq.change", subscriptions)
    subscriptions.link(mni)
    return True


async def _insert(
    mni: MmuIntervalNotifier, mm: Mm, start: int, length: int, ops: Invalidate
) -> int:
    if length <= 0 or start + length - 1 > ULONG_MAX:
        return -errno.EOVERFLOW
    subscriptions = mm.subscriptions
    assert subscriptions is not None
    if mm.users.count <= 0:
        warn("mmu_interval_notifier_insert: mm without users")
        return -errno.EINVAL
    await do(Op("notifier.insert", subscriptions))
    _fill(mni, mm, start, length, ops)
    placed = _place(subscriptions, mni)
    probe("subseq.change", mni)
    note("notifier.insert", notifier=mni.name, start=start, length=length, deferred=not placed)
    # It is live: others may call back before the caller's next statement.
    await step("notifier.insert_return", mni)
    return 0


async def _make_subscriptions(mm: Mm) -> int:
    failure = injected("notifier.insert")
    if failure is not None:
        return -int(getattr(errno, failure.errno or "ENOMEM"))
    if mm.subscriptions is not None:
        return 0
    await mmap_write_lock(mm)
    ret = await _make_subscriptions_locked(mm)
    await mmap_write_unlock(mm)
    return ret


async def _make_subscriptions_locked(mm: Mm) -> int:
    if mm.subscriptions is not None:
        return 0
    if current().fatal_pending:
        return -errno.EINTR
    await mm.rmap_lock.down_write()
    mm.subscriptions = NotifierSubscriptions(f"{mm.name}.notifier")
    await mm.rmap_lock.up_write()
    return 0
