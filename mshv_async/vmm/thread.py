"""A thread that executes a program of a scenario: VMM, host, reclaimer, OOM reaper."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from mshv_async.host import (
    PAGE_SHIFT,
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
from mshv_async.sim import (
    Shared,
    Tag,
    Token,
    checked_call,
    cond_resched,
    current,
    note,
    sleep_ns,
)
from mshv_async.vmm.operations import Operation, Position, Program, following, operation_at

if TYPE_CHECKING:
    from mshv_async.vmm.process import VmmProcess


class ScenarioThread(Shared):
    """One thread: its program, where it stands, and the number of its last default tag."""

    __slots__ = ("position", "program", "serial", "vmm")
    _const = ("program", "vmm")
    _sync = True

    def __init__(self, vmm: VmmProcess, name: str, program: Program) -> None:
        super().__init__(name)
        self.vmm = vmm
        self.program = program
        self.position = Position()
        self.serial = Token(0)

    async def run(self) -> None:
        """Do one operation after the other; failures are logged and the program goes on.

        Ends with the program, with a fatal signal, or, if the program is endless, after the
        operation during which all other threads came to their ends.
        """
        thread = current()
        while True:
            operation = operation_at(self.program, self.position)
            over = operation is None or (self.program.forever and thread.rt.closing)
            if over or thread.fatal_pending:
                return
            assert operation is not None
            if not self.program.forever:
                thread.owes_progress(operation.pages)
            await self._perform(operation)
            thread.progress()
            self.position = following(self.program, self.position)

    async def _perform(self, operation: Operation) -> None:
        note("op.begin", op=str(operation))
        ret = await PERFORM[operation.kind](self, operation)
        failed = isinstance(ret, int) and ret < 0
        note("op.end", op=str(operation), ret=str(ret), failed=failed)

    def place(self, operation: Operation) -> int:
        """Return the address (bytes) that an operation is about."""
        if operation.address is not None:
            return operation.address
        assert operation.gfn is not None
        return self.vmm.addresses.address(operation.gfn, operation.pages)

    def fresh_tag(self) -> Tag:
        """Return the next default tag, ``<thread>.<number>``."""
        self.serial = Token(self.serial.n + 1)
        return Tag(f"{self.name}.{self.serial.n}")


Performer = Callable[[ScenarioThread, Operation], Awaitable[Tag | int]]


async def _touch(thread: ScenarioThread, op: Operation) -> Tag | int:
    return await checked_call("syscall", touch(thread.vmm.mm, thread.place(op)))


async def _store(thread: ScenarioThread, op: Operation) -> int:
    tag = Tag(op.tag) if op.tag else thread.fresh_tag()
    return await checked_call("syscall", store(thread.vmm.mm, thread.place(op), tag))


async def _madvise(thread: ScenarioThread, op: Operation) -> int:
    length = op.pages << PAGE_SHIFT
    call = madvise(thread.vmm.mm, thread.place(op), length, op.advice or "dontneed")
    return await checked_call("syscall", call)


async def _munmap(thread: ScenarioThread, op: Operation) -> int:
    call = munmap(thread.vmm.mm, thread.place(op), op.pages << PAGE_SHIFT)
    return await checked_call("syscall", call)


async def _mprotect(thread: ScenarioThread, op: Operation) -> int:
    length = op.pages << PAGE_SHIFT
    call = mprotect(thread.vmm.mm, thread.place(op), length, op.prot or "none")
    return await checked_call("syscall", call)


async def _reclaim(thread: ScenarioThread, op: Operation) -> int:
    mm = thread.vmm.mm
    if op.gfn is None and op.address is None:
        return await checked_call("reclaim", reclaim_some(mm.host, op.pages))
    return await checked_call("reclaim", reclaim_pages(mm, thread.place(op), op.pages))


async def _reap(thread: ScenarioThread, _: Operation) -> int:
    mm = thread.vmm.mm
    await oom_kill(mm)
    return int(await checked_call("reap", oom_reap(mm)))


async def _map(thread: ScenarioThread, op: Operation) -> int:
    return await thread.vmm.map(op)


async def _unmap(thread: ScenarioThread, op: Operation) -> int:
    return await thread.vmm.unmap(op)


async def _kill(thread: ScenarioThread, _: Operation) -> int:
    return await thread.vmm.kill()


async def _sleep(_: ScenarioThread, op: Operation) -> int:
    await sleep_ns(op.ns)
    return 0


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
    "reap": _reap,
    "map": _map,
    "unmap": _unmap,
    "kill": _kill,
    "sleep": _sleep,
    "yield": _yield,
}
"""What is done for each kind of operation; the result is a value read, 0 or an errno."""
