"""A thread that executes a program of a scenario: VMM, host, reclaimer, khugepaged, OOM reaper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim import Shared, Tag, Token, current, note
from mshv_async.vmm.operations import Operation, Position, Program, following, operation_at
from mshv_async.vmm.performing import PERFORM

if TYPE_CHECKING:
    from mshv_async.vmm.monitor import VmmProcess
    from mshv_async.vmm.process import Process


#: What the VMM does for its guest; other threads disturb it, and stop in the second phase.
OWN_KINDS = ("vmm", "vp")


class ScenarioThread(Shared):
    """One thread: its program, where it stands, and the number of its last default tag.

    ``process``: whose memory and descriptors its operations are about.
    """

    __slots__ = ("position", "process", "program", "serial", "vmm")
    _const = ("process", "program", "vmm")
    _sync = True

    def __init__(self, vmm: VmmProcess, process: Process, name: str, program: Program) -> None:
        super().__init__(name)
        self.vmm = vmm
        self.process = process
        self.program = program
        self.position = Position()
        self.serial = Token(0)

    async def run(self) -> None:
        """Do one operation after the other; failures are logged and the program goes on.

        Ends with the program, or, if that is endless, after the operation during which all other
        threads came to their ends. With a fatal signal or ``exit`` it leaves its process.
        """
        thread = current()
        while not thread.fatal_pending:
            operation = operation_at(self.program, self.position)
            if operation is None or (self.program.forever and thread.rt.closing):
                return
            if thread.rt.settled_at is not None and thread.kind not in OWN_KINDS:
                return  # the host begins nothing of itself any more
            if not self.program.forever:
                thread.owes_progress(operation.pages)
            await self._perform(operation)
            if operation.kind == "exit":
                break
            thread.progress()
            self.position = following(self.program, self.position)
        await self.process.leave()

    async def _perform(self, operation: Operation) -> None:
        note("op.begin", op=operation)  # written out only where it is kept
        ret = await PERFORM[operation.kind](self, operation)
        failed = isinstance(ret, int) and ret < 0
        note("op.end", op=operation, ret=str(ret), failed=failed)

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
