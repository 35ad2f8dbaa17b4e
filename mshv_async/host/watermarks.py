"""Short of memory: direct reclaim, kswapd, and the OOM killer as the last resort (spec.md 6.7).

"min" is the host's watermark, "low" 5/4 and "high" 3/2 of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mshv_async.host.oom import out_of_memory
from mshv_async.host.reclaim import reclaim_some
from mshv_async.sim import SLEEP, Op, current, do, note, probe

if TYPE_CHECKING:
    from mshv_async.host.frames import HostMemory
    from mshv_async.host.mm import Mm
    from mshv_async.sim import Thread

MAX_RETRIES: Final = 16


async def kswapd_body(host: HostMemory) -> None:
    """Reclaim up to "high" each time memory falls below "low"; a daemon's body, never returns."""
    box = host.kswapd_box
    assert box is not None, "the host was made without kswapd"
    while True:
        await box.receive()
        high = host.watermark * 3 // 2
        for _ in range(MAX_RETRIES):
            if host.nr_free >= high or not await reclaim_some(host, high - host.nr_free):
                break
        note("kswapd.sleep", free_pages=host.nr_free)


def below_low(host: HostMemory, n: int) -> None:
    """Wake kswapd if an allocation of ``n`` pages goes below "low"."""
    box = host.kswapd_box
    if box is not None and host.nr_free - n < host.watermark * 5 // 4 and not box.messages:
        box.post(True)


async def slow_path(host: HostMemory, n: int, op: Op, site: str, *, costly: bool) -> None:
    """Find memory for ``n`` pages on this very thread; whether there is enough is seen then.

    Who reclaims already takes from the reserve instead (PF_MEMALLOC).
    """
    if current() in host.reclaimers:
        return
    probe("reclaim.direct", host, site)
    await reclaim_some(host, n + host.watermark - host.nr_free)
    await do(op)
    if host.oom_killer and not costly:
        await _kill_until_enough(host, n, op)


async def _kill_until_enough(host: HostMemory, n: int, op: Op) -> None:
    """Kill one process after the other; a thread that was killed itself takes what there is."""
    for _ in range(MAX_RETRIES):
        if host.nr_free - n >= host.watermark or current().fatal_pending:
            return
        victim = await out_of_memory(host)
        if victim is None:
            return
        # The kernel sleeps a tick and tries again, as often as it takes.
        await do(Op("oom.wait", host, kind=SLEEP, guard=_MemoryCame(host, n, victim)))
        if host.nr_free - n < host.watermark:
            await reclaim_some(host, n + host.watermark - host.nr_free)
            await do(op)


class _MemoryCame:
    """The condition that an allocation waits for after a kill."""

    __slots__ = ("host", "n", "victim")

    def __init__(self, host: HostMemory, n: int, victim: Mm) -> None:
        self.host = host
        self.n = n
        self.victim = victim

    def __call__(self, thread: Thread) -> bool:
        """Whether there is memory, there will be none, or the thread is to die itself."""
        enough = self.host.nr_free - self.n >= self.host.watermark
        return enough or self.victim.flags.oom_skip or thread.fatal_pending
