"""A process: address space, descriptors, threads, and its end in the kernel's order."""

from __future__ import annotations

from errno import EBADF
from typing import TYPE_CHECKING, Final

from mshv_async.host import mmput
from mshv_async.sim import KILLABLE, Op, Shared, checked_call, current, do, note, probe, step
from mshv_async.vmm.files import File, Files, fput

if TYPE_CHECKING:
    from mshv_async.driver import V6
    from mshv_async.host import Mm
    from mshv_async.sim import Runtime, Thread

OF_A_PROCESS: Final = frozenset({"vmm", "host", "vp", "main"})
"""Kinds of threads that live in a process: its mm is theirs, and ``kill`` reaches them."""


class Process(Shared):
    """A process. ``mm.threads`` are its threads, ``left`` those of them that went on its end.

    A thread whose program is over is idle: it neither keeps the process nor ends it.
    """

    __slots__ = ("driver", "files", "left", "mm")
    _const = ("driver", "files", "mm")
    _sync = True

    def __init__(self, name: str, mm: Mm, driver: V6) -> None:
        super().__init__(name)
        self.mm = mm
        self.driver = driver
        self.files = Files(f"{name}.files")
        self.left: tuple[Thread, ...] = ()

    # -- threads ---------------------------------------------------------------------------

    def join(self, thread: Thread) -> Thread:
        """Make a thread one of the process, if its kind lives in one."""
        if thread.kind in OF_A_PROCESS:
            thread.mm = self.mm
            self.mm.threads.append(thread)
        return thread

    def start_main(self, rt: Runtime) -> Thread:
        """Create the main thread of a process that does nothing: it sleeps until it is killed."""
        thread = rt.spawn(self.name, self._sleep, daemon=True, kind="main", first=self._asleep())
        return self.join(thread)

    def _asleep(self) -> Op:
        return Op("process.sleep", self, write=False, guard=_never, wait=KILLABLE)

    async def _sleep(self) -> None:
        await do(self._asleep())
        current().daemon = False
        await self.leave()

    # -- signals and the end ---------------------------------------------------------------

    async def kill(self) -> int:
        """Send a fatal signal to the process; it reaches each of its threads at once."""
        await step("signal.kill", self.mm, write=True)
        for thread in self.mm.threads:
            _kill(thread)
        note("vmm.kill", process=self.name)
        return 0

    async def exit(self) -> int:
        """Begin the end of the process: every other thread of it gets a fatal signal.

        The caller leaves next.
        """
        await step("process.exit", self.mm, write=True)
        note("process.exit", process=self.name)
        probe("process.exit", self.mm)
        for thread in self.mm.threads:
            if thread is not current():
                _kill(thread)
        return 0

    async def leave(self) -> None:
        """Take the current thread off the process: what the kernel does for a thread that ends.

        The last one drops the address space (RELEASE, UNMAP, VMAs gone) and only then closes the
        descriptors, in table order (spec.md 1.6).
        """
        thread = current()
        self.left = (*self.left, thread)
        thread.mm = None
        if not all(t.finished or t in self.left for t in self.mm.threads):
            return
        await checked_call("exit", mmput(self.mm))
        note("process.closes", process=self.name)
        for fd in self.files.open_fds():
            await self._close(fd)

    # -- descriptors -----------------------------------------------------------------------

    def fget(self, fd: int | None) -> File | None:
        """Return the file behind a descriptor, held until :func:`fput`; None: there is none."""
        file = self.files.get(fd)
        if file is not None:
            file.count += 1
        return file

    async def close(self, kind: str, index: int | None) -> int:
        """Close the lowest descriptor of the partition or of a VP; -EBADF: there is none."""
        await step("file.close", self.files, write=True)
        fd = self.files.fd_of(kind, index)
        if fd is None:
            return -EBADF
        await self._close(fd)
        return 0

    async def dup(self, kind: str, index: int | None) -> int:
        """Duplicate a descriptor to the lowest free one; -EBADF: there is none."""
        await step("file.dup", self.files, write=True)
        file = self.files.get(self.files.fd_of(kind, index))
        return -EBADF if file is None else self.files.install(file)

    async def _close(self, fd: int) -> None:
        file = self.files.remove(fd)
        note("file.close", process=self.name, fd=fd, file=file.name)
        probe("file.close", current(), file.kind, file.object)
        await checked_call("close", fput(file, self.driver))


def _kill(thread: Thread) -> None:
    thread.daemon = False  # also of one that only slept, the end is waited for
    thread.signal_fatal()


def _never(_: Thread) -> bool:
    return False
