"""The OOM killer's victim and the reaper that takes its memory (spec.md 1.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mshv_async.host.mm import mmap_read_trylock, mmap_read_unlock
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT, ULONG_MAX
from mshv_async.host.zap import zap_range
from mshv_async.sim import note, sleep_ns, step

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm

REAP_DELAY_NS: Final = 2_000_000_000
RETRY_DELAY_NS: Final = 100_000_000
MAX_ATTEMPTS: Final = 10


async def oom_kill(mm: Mm) -> None:
    """Send a fatal signal to all threads of the process."""
    await step("oom.kill", mm, write=True)
    for thread in mm.threads:
        thread.signal_fatal()
    note("oom.kill", mm=mm.name)


async def oom_reap(mm: Mm, event: NotifierEvent = NotifierEvent.UNMAP) -> bool:
    """Wait, then try up to ten times to zap the victim; say whether an attempt was complete.

    ``event``: UNMAP up to about 6.19, CLEAR in the kernels of 2026.
    """
    await sleep_ns(REAP_DELAY_NS)
    reaped = False
    attempt = 0
    while not reaped and attempt < MAX_ATTEMPTS:
        if attempt:
            await sleep_ns(RETRY_DELAY_NS)
        attempt += 1
        reaped = await _reap_once(mm, event)
        note("oom.pass", mm=mm.name, attempt=attempt, complete=reaped)
    mm.flags.oom_skip = True
    return reaped


async def _reap_once(mm: Mm, event: NotifierEvent) -> bool:
    if not await mmap_read_trylock(mm):
        return False
    if mm.flags.oom_skip:
        await mmap_read_unlock(mm)
        return True
    mm.flags.unstable = True
    complete = True
    for lo, hi, vma in mm.vmas.runs(0, ULONG_MAX >> PAGE_SHIFT):
        if vma.flags & {"HUGETLB", "PFNMAP"} or (vma.backing != "anon" and "SHARED" in vma.flags):
            continue
        bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, event, blockable=False)
        if await invalidate_range_start(bracket):
            complete = False
            continue
        await zap_range(mm, lo, hi)
        await invalidate_range_end(bracket)
    await mmap_read_unlock(mm)
    return complete
