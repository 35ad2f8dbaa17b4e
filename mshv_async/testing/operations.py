"""One operation as a thread of its own."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mshv_async.scenario.programs import Line, Program
from mshv_async.sim import note
from mshv_async.vmm import PERFORM, ScenarioThread

if TYPE_CHECKING:
    from mshv_async.scenario.operations import Operation as Written
    from mshv_async.sim import Tag
    from mshv_async.vmm import Operation, VmmProcess


class CallThread(ScenarioThread):
    """A thread of a scenario whose program is one operation, with its result.

    `result`: a tag, 0 or -errno; -EINTR if the process was killed before it began.
    """

    __slots__ = ("result",)

    def __init__(self, vmm: VmmProcess, name: str, operation: Written) -> None:
        super().__init__(vmm, vmm, name, Program((Line(operations=(operation,)),)))
        self.result: Tag | int = -errno.EINTR

    async def _perform(self, operation: Operation) -> None:
        note("op.begin", op=str(operation))
        self.result = await PERFORM[operation.kind](self, operation)
        failed = isinstance(self.result, int) and self.result < 0
        note("op.end", op=str(operation), ret=str(self.result), failed=failed)
