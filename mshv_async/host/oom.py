"""The OOM killer's victim and the reaper that takes its memory (spec.md 1.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mshv_async.host.mm import mmap_read_trylock, mmap_read_unlock, mmdrop, mmgrab
from mshv_async.host.notifier import (
    MmuNotifierRange,
    NotifierEvent,
    invalidate_range_end,
    invalidate_range_start,
)
from mshv_async.host.page import PAGE_SHIFT, ULONG_MAX
from mshv_async.host.pte import SWAP
from mshv_async.host.zap import zap_range
from mshv_async.sim import Op, do, note, sleep_ns, step

if TYPE_CHECKING:
    from mshv_async.host.frames import HostMemory
    from mshv_async.host.mm import Mm
    from mshv_async.host.vma import Vma

REAP_DELAY_NS: Final = 2_000_000_000
RETRY_DELAY_NS: Final = 100_000_000
MAX_ATTEMPTS: Final = 10


async def out_of_memory(host: HostMemory) -> Mm | None:
    """Choose who dies and tell the reaper; return whose memory is to come, None: nobody is left.

    A victim whose memory is still coming is not joined by another one.
    """
    await do(Op("oom.select", host))
    for mm in host.mms:
        if mm.flags.oom_victim and not mm.flags.oom_skip:
            return mm
    alive = [mm for mm in host.mms if mm.users.count > 0 and not mm.flags.oom_victim]
    if not alive:
        return None
    victim = max(alive, key=_badness)
    victim.flags.oom_victim = True
    await oom_kill(victim)
    mmgrab(victim)
    assert host.oom_box is not None, "the host was made without an OOM killer"
    host.oom_box.post(victim)
    return victim


def _badness(mm: Mm) -> int:
    """Count what the death of a process would free: pages and swap, not hugetlb's."""
    return sum(
        b - a
        for a, b, pte in mm.ptes.runs(0, ULONG_MAX >> PAGE_SHIFT)
        if pte.state is SWAP or (pte.owns_frame and pte.pfn < mm.host.pages)
    )


async def oom_reaper_body(host: HostMemory, event: NotifierEvent = NotifierEvent.UNMAP) -> None:
    """Reap one victim of the OOM killer after the other; a daemon's body, it never returns."""
    assert host.oom_box is not None, "the host was made without an OOM killer"
    while True:
        victim = await host.oom_box.receive()
        await oom_reap(victim, event)
        mmdrop(victim)


async def oom_kill(mm: Mm) -> None:
    """Send a fatal signal to all threads of the process."""
    await step("oom.kill", mm, write=True)
    mm.flags.oom_victim = True
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


def _reapable(vma: Vma) -> bool:
    anonymous = vma.backing in {"anon", "thp"}
    return not vma.flags & {"HUGETLB", "PFNMAP"} and (anonymous or "SHARED" not in vma.flags)


async def _reap_once(mm: Mm, event: NotifierEvent) -> bool:
    if not await mmap_read_trylock(mm):
        return False
    if mm.flags.oom_skip:
        await mmap_read_unlock(mm)
        return True
    mm.flags.unstable = True
    complete = True
    for lo, hi, vma in mm.vmas.runs(0, ULONG_MAX >> PAGE_SHIFT):
        if not _reapable(vma):
            continue
        bracket = MmuNotifierRange(mm, lo << PAGE_SHIFT, hi << PAGE_SHIFT, event, blockable=False)
        if await invalidate_range_start(bracket):
            complete = False
            continue
        await zap_range(mm, lo, hi)
        await invalidate_range_end(bracket)
    await mmap_read_unlock(mm)
    return complete
