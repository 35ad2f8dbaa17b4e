"""Open files of the driver's device, and the descriptor table of a process (spec.md 1.6, 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from mshv_async.sim import Shared, note, probe

if TYPE_CHECKING:
    from mshv_async.driver import V6

FIRST_FD: Final = 3
"""The lowest descriptor of a table; 0 to 2 are the standard ones."""

Kind = Literal["partition", "vp"]


class File(Shared):
    """An open file: a partition or, with an ``index``, a virtual processor.

    ``count``: the descriptors that name it, in all processes, and the calls under way on it. When
    the last of them is gone, the driver releases the object.
    """

    __slots__ = ("count", "index", "kind", "object")
    _const = ("index", "kind", "object")
    _sync = True

    def __init__(self, kind: Kind, object: Any, index: int | None, count: int = 0) -> None:
        super().__init__("file.partition" if index is None else f"file.vp{index}")
        self.kind = kind
        self.object = object
        self.index = index
        self.count = count


async def fput(file: File, driver: V6) -> None:
    """Let a file go; the last one to do so has the driver release it, on the current thread."""
    file.count -= 1
    if file.count:
        return
    note("file.release", file=file.name)
    probe("file.release", file.kind, file.object)
    if file.index is None:
        await driver.partition_release(file.object)
    else:
        await driver.vp_release(file.object)


class Files(Shared):
    """A descriptor table: file by descriptor, from :data:`FIRST_FD` on; None: a free one."""

    __slots__ = ("table",)
    _sync = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.table: tuple[File | None, ...] = ()

    def install(self, file: File) -> int:
        """Give a file the lowest free descriptor and return that."""
        file.count += 1
        at = self.table.index(None) if None in self.table else len(self.table)
        self.table = (*self.table[:at], file, *self.table[at + 1 :])
        return FIRST_FD + at

    def get(self, fd: int | None) -> File | None:
        """Return the file behind a descriptor, if it is an open one."""
        at = -1 if fd is None else fd - FIRST_FD
        return self.table[at] if 0 <= at < len(self.table) else None

    def fd_of(self, kind: str, index: int | None = None) -> int | None:
        """Return the lowest descriptor of the partition, or of a virtual processor."""
        for at, file in enumerate(self.table):
            if file is not None and file.kind == kind and file.index == index:
                return FIRST_FD + at
        return None

    def remove(self, fd: int) -> File:
        """Free a descriptor; the file is still held by the caller."""
        at = fd - FIRST_FD
        file = self.table[at]
        assert file is not None, "the descriptor is open"
        self.table = (*self.table[:at], None, *self.table[at + 1 :])
        return file

    def open_fds(self) -> list[int]:
        """Return the open descriptors in table order."""
        return [FIRST_FD + at for at, file in enumerate(self.table) if file is not None]
