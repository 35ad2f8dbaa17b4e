"""The guest processor: an actor that executes a virtual processor's program.

Each access is one scheduling point and one step: the SLAT entry is looked up and the access
completes or is refused in that step. A refused access is tried again whenever the virtual
processor runs again; nothing is remembered of the first attempt (spec.md 5.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from mshv_async.guest.program import GuestAccess, Operation, OperationSource, Sleep
from mshv_async.hyperv import RAM, Access, HvMessageType, InterceptMessage, VirtualProcessor
from mshv_async.sim import (
    Op,
    Shared,
    Tag,
    Thread,
    Token,
    cond_resched,
    current,
    do,
    note,
    probe,
    sleep_ns,
)

if TYPE_CHECKING:
    from mshv_async.hyperv import SlatEntry
    from mshv_async.sim import Runtime

_LABELS: Final = ("guest.read", "guest.write", "guest.exec")  # indexed by Access
_WRITE: Final = Access.WRITE


class GuestMemory(Protocol):
    """Content of host pages; an empty page holds 0."""

    def load(self, pfn: int) -> Tag | int:
        """Return what a host page holds."""
        ...

    def store(self, pfn: int, tag: Tag) -> None:
        """Let a host page hold a tag."""
        ...


class GuestProcessor(Shared):
    """One virtual processor's instructions: ``source`` from ``position`` on.

    ``issued``: the access at the position was tried at least once. ``serial`` numbers the fresh
    tags of writes, ``vp0.1``, ``vp0.2``, …
    """

    __slots__ = ("issued", "memory", "position", "serial", "source", "vp")
    _const = ("memory", "source", "vp")
    _sync = True

    def __init__(self, vp: VirtualProcessor, source: OperationSource, memory: GuestMemory) -> None:
        super().__init__(f"guest{vp.index}")
        self.vp = vp
        self.source = source
        self.memory = memory
        self.position = 0
        self.issued = False
        self.serial = Token(0)

    def start(self, rt: Runtime, vp_thread: Thread | None = None) -> Thread:
        """Create the thread that executes the program.

        ``vp_thread``: the VMM's thread that runs this virtual processor; what the guest retires
        is that thread's progress.
        """
        thread = rt.spawn(
            self.name,
            self.run,
            daemon=True,
            forever=self.source.forever,
            kind="guest",
            for_thread=vp_thread,
            first=self._declared(self.source.at(0)),
        )
        if not self.source.forever:
            thread.owes_progress(1)
        self.vp.guest = thread
        return thread

    def skip(self) -> None:
        """End the refused operation without its effect: the VMM dealt with the exit.

        For the VMM, between an unhandled exit and the next run of the virtual processor.
        """
        thread = self.vp.guest
        if thread is None or not self.issued:
            return
        self._retire(thread)
        if not thread.finished:
            self.look_again()

    def look_again(self) -> None:
        """Declare what comes next anew, where position or source were changed from outside."""
        thread = self.vp.guest
        assert thread is not None
        thread.op = self._declared(self.source.at(self.position))

    async def run(self) -> None:
        """Execute the program, then halt whenever the virtual processor runs."""
        thread = current()
        while True:
            closing = (
                self.source.forever and thread.rt.closing and not self.issued and not thread.first
            )
            position = self.position
            operation = None if closing else self.source.at(position)
            await do(self._declared(operation))
            if self.position != position:
                operation = self.source.at(self.position)
            if operation is None:
                thread.progress()
                await self.vp.intercept(InterceptMessage(HvMessageType.HALT, self.vp.index))
            elif isinstance(operation, GuestAccess):
                await self._attempt(thread, operation)
            else:
                await self._pause(operation)
                self._retire(thread)

    def _declared(self, operation: Operation | None) -> Op:
        """Return what the guest does next once it may run."""
        vp = self.vp
        if isinstance(operation, GuestAccess):
            access, gfn, _ = operation
            slat = vp.partition.slat
            return Op(_LABELS[access], slat, gfn, gfn + 1, access is _WRITE, guard=vp.may_run)
        return Op("guest.halt" if operation is None else "guest.pause", vp, guard=vp.may_run)

    async def _attempt(self, thread: Thread, operation: GuestAccess) -> None:
        access, gfn, _ = operation
        vp = self.vp
        entry = vp.partition.slat.get(gfn) if vp.tlb is None else vp.translate(gfn, access)
        if not self.issued:
            self.issued = True
            probe("guest.issue", vp, access, gfn)
        if entry is None or not entry.allows(access):
            await vp.refuse(access, gfn, entry)
            return
        tag = self._transfer(operation, entry)
        probe("guest.access", self, access, gfn, entry, tag)
        if thread.rt.notes is not None:
            kind = _LABELS[access].rpartition(".")[2]
            note("guest.access", vp=vp.index, kind=kind, gfn=gfn, pfn=entry.pfn, tag=str(tag))
        self._retire(thread)

    def _transfer(self, operation: GuestAccess, entry: SlatEntry) -> Tag | int:
        """Move the content; device pages hold none."""
        if operation.access is not _WRITE:
            return self.memory.load(entry.pfn) if entry.kind is RAM else 0
        tag = Tag(operation.tag) if operation.tag else self._fresh_tag()
        if entry.kind is RAM:
            self.memory.store(entry.pfn, tag)
        return tag

    def _fresh_tag(self) -> Tag:
        self.serial = Token(self.serial.n + 1)
        return Tag(f"vp{self.vp.index}.{self.serial.n}")

    async def _pause(self, operation: Operation) -> None:
        if isinstance(operation, Sleep):
            await sleep_ns(operation.ns)
        else:
            await cond_resched()

    def _retire(self, thread: Thread) -> None:
        """Go on to the next operation; an operation that ended is progress."""
        self.position = self.source.after(self.position)
        self.issued = False
        thread.progress()
        if not self.source.forever:
            thread.owes_progress(1)
