"""What the operations of a program do, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from mshv_async.host import (
    PAGE_SHIFT,
    collapse_huge_page,
    madvise,
    mprotect,
    munmap,
    oom_kill,
    oom_reap,
    reclaim_pages,
    reclaim_some,
    store,
    touch,
)
from mshv_async.sim import KILLABLE, Tag, checked_call, cond_resched, sleep_ns

if TYPE_CHECKING:
    from mshv_async.vmm.operations import Operation
    from mshv_async.vmm.thread import ScenarioThread

PMD_SIZE: Final = 1 << 21
"""Bytes that a huge page of 2 MiB maps."""

Performer = Callable[["ScenarioThread", "Operation"], Awaitable[Tag | int]]


async def _touch(thread: ScenarioThread, op: Operation) -> Tag | int:
    return await checked_call("syscall", touch(thread.process.mm, thread.place(op)))


async def _store(thread: ScenarioThread, op: Operation) -> int:
    tag = Tag(op.tag) if op.tag else thread.fresh_tag()
    return await checked_call("syscall", store(thread.process.mm, thread.place(op), tag))


async def _madvise(thread: ScenarioThread, op: Operation) -> int:
    length = op.pages << PAGE_SHIFT
    call = madvise(thread.process.mm, thread.place(op), length, op.advice or "dontneed")
    return await checked_call("syscall", call)


async def _munmap(thread: ScenarioThread, op: Operation) -> int:
    call = munmap(thread.process.mm, thread.place(op), op.pages << PAGE_SHIFT)
    return await checked_call("syscall", call)


async def _mprotect(thread: ScenarioThread, op: Operation) -> int:
    length = op.pages << PAGE_SHIFT
    call = mprotect(thread.process.mm, thread.place(op), length, op.prot or "none")
    return await checked_call("syscall", call)


async def _reclaim(thread: ScenarioThread, op: Operation) -> int:
    mm = thread.process.mm
    if op.gfn is None and op.address is None:
        return await checked_call("reclaim", reclaim_some(mm.host, op.pages))
    return await checked_call("reclaim", reclaim_pages(mm, thread.place(op), op.pages))


async def _collapse(thread: ScenarioThread, op: Operation) -> int:
    """Collapse each aligned block of 2 MiB that the pages touch; return the first failure."""
    mm = thread.process.mm
    first = thread.place(op)
    failure = 0
    for start in range(first & -PMD_SIZE, first + (op.pages << PAGE_SHIFT), PMD_SIZE):
        ret = await checked_call("collapse", collapse_huge_page(mm, start))
        failure = failure or ret
    return failure


async def _reap(thread: ScenarioThread, op: Operation) -> int:
    mm = thread.vmm.process(op.process).mm
    await oom_kill(mm)
    return int(await checked_call("reap", oom_reap(mm)))


async def _map(thread: ScenarioThread, op: Operation) -> int:
    return await thread.vmm.map(thread.process, op)


async def _unmap(thread: ScenarioThread, op: Operation) -> int:
    return await thread.vmm.unmap(thread.process, op)


async def _create_vp(thread: ScenarioThread, op: Operation) -> int:
    assert op.vp is not None
    return await thread.vmm.create_vp(thread.process, op.vp)


async def _signal(thread: ScenarioThread, op: Operation) -> int:
    assert op.vp is not None
    return await thread.vmm.signal(op.vp)


async def _close(thread: ScenarioThread, op: Operation) -> int:
    return await thread.process.close(op.file or "", op.vp)


async def _dup(thread: ScenarioThread, op: Operation) -> int:
    return await thread.process.dup(op.file or "", op.vp)


async def _kill(thread: ScenarioThread, op: Operation) -> int:
    process = thread.process if op.process is None else thread.vmm.process(op.process)
    return await process.kill()


async def _exit(thread: ScenarioThread, _: Operation) -> int:
    return await thread.process.exit()


async def _sleep(_: ScenarioThread, op: Operation) -> int:
    return await sleep_ns(op.ns, KILLABLE)


async def _yield(_thread: ScenarioThread, _op: Operation) -> int:
    await cond_resched()
    return 0


PERFORM: Final[dict[str, Performer]] = {
    "touch": _touch,
    "store": _store,
    "madvise": _madvise,
    "munmap": _munmap,
    "mprotect": _mprotect,
    "reclaim": _reclaim,
    "collapse": _collapse,
    "reap": _reap,
    "map": _map,
    "unmap": _unmap,
    "create-vp": _create_vp,
    "signal": _signal,
    "close": _close,
    "dup": _dup,
    "kill": _kill,
    "exit": _exit,
    "sleep": _sleep,
    "yield": _yield,
}
"""What is done for each kind of operation; the result is a value read, 0 or an errno."""
