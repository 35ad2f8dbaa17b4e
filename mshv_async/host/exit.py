"""The end of an address space, in the kernel's order (spec.md 1.6, steps 2 to 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.host.mm import (
    mmap_read_lock,
    mmap_read_unlock,
    mmap_write_lock,
    mmap_write_unlock,
    mmdrop,
)
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
    release_notifiers,
)
from mshv_async.host.page import PAGE_SHIFT, ULONG_MAX
from mshv_async.host.zap import zap_range
from mshv_async.sim import do, note, probe

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm


async def mmput(mm: Mm) -> None:
    """Stop being a user; the last one dismantles the address space, which may sleep."""
    await do(mm.op_put)
    if mm.users.dec_and_test():
        await exit_mmap(mm)
        mmdrop(mm)


async def exit_mmap(mm: Mm) -> None:
    """Tell the notifiers, zap everything inside an UNMAP bracket, then drop the VMAs.

    Two callbacks for each subscription: RELEASE without a lock, UNMAP under mmap_lock for
    reading. Subscriptions stay in the tree.
    """
    note("mm.exit", mm=mm.name)
    await release_notifiers(mm)
    await mmap_read_lock(mm)
    everything = MmuNotifierRange(mm, 0, ULONG_MAX, NotifierEvent.UNMAP)
    await invalidate_range_start(everything)
    for lo, hi in _spans(mm):
        await zap_range(mm, lo, hi)
    await invalidate_range_end(everything)
    await mmap_read_unlock(mm)
    mm.flags.oom_skip = True
    await mmap_write_lock(mm)
    leaked = mm.ptes.total(0, ULONG_MAX >> PAGE_SHIFT)
    if leaked:  # the kernel says "Bad rss-counter state" when the structure goes
        note("mm.bad_rss", mm=mm.name, pages=leaked)
    mm.vmas.clear(0, ULONG_MAX >> PAGE_SHIFT)
    probe("vma.change", mm)
    await mmap_write_unlock(mm)


def _spans(mm: Mm) -> list[tuple[int, int]]:
    return [(lo, hi) for lo, hi, _ in mm.vmas.runs(0, ULONG_MAX >> PAGE_SHIFT)]
