"""Who a test can call: virtual processors, and threads of the VMM, the host and the kernel.

Each call enters the world as a thread of its own and returns what the operation does: 0 or
-errno, or the tag of a page (0 for an empty one). Guest pages are `gfn`, counts are 4 KiB pages.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mshv_async.guest import GuestAccess
from mshv_async.hyperv import Access

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.testing.guests import DrivenGuest
    from mshv_async.testing.world import World


class Vp:
    """A virtual processor. It does one thing at a time: calls to the same one queue up."""

    def __init__(self, world: World, guest: DrivenGuest) -> None:
        self._world = world
        self._guest = guest
        self._turn = asyncio.Lock()

    async def read(self, gfn: int) -> str | int:
        """Read a guest page; returns its tag, 0 if it is empty, or -errno."""
        return await self._access(GuestAccess(Access.READ, gfn))

    async def write(self, gfn: int, tag: str = "") -> int:
        """Write a tag (default: `vp0.1`, `vp0.2`, …) to a guest page; returns 0 or -errno."""
        return _status(await self._access(GuestAccess(Access.WRITE, gfn, tag)))

    async def exec(self, gfn: int) -> int:
        """Fetch an instruction from a guest page; returns 0 or -errno."""
        return _status(await self._access(GuestAccess(Access.EXECUTE, gfn)))

    async def _access(self, access: GuestAccess) -> str | int:
        async with self._turn:
            return await self._world.run_guest(self._guest, access)


def _status(result: str | int) -> int:
    return result if isinstance(result, int) else 0


class Caller:
    """Threads of one kind; `do` takes any operation that a scenario's programs know."""

    kind = ""

    def __init__(self, world: World) -> None:
        self._world = world

    async def do(self, operation: str) -> str | int:
        """Perform one operation, written as in a scenario: `madvise dontneed 0x200 1`.

        Raises ValueError, in one line, for what is no operation of this kind of thread.
        """
        return await self._world.perform(self.kind, operation)

    async def _ask(self, *words: object) -> int:
        shown = [hex(word) if isinstance(word, int) else str(word) for word in words]
        return _status(await self.do(" ".join(word for word in shown if word)))


class Host(Caller):
    """System calls and memory accesses of threads of the VMM's process."""

    kind = "host"

    async def touch(self, gfn: int) -> str | int:
        """Read the memory behind a guest page; returns its tag, 0 or -errno."""
        return await self.do(f"touch {gfn:#x}")

    async def store(self, gfn: int, tag: str = "") -> int:
        """Write a tag to the memory behind a guest page."""
        return await self._ask("store", gfn, tag)

    async def madvise(self, advice: str, gfn: int, pages: int = 1) -> int:
        """Give an advice: `dontneed`, `free`, `pageout` or another that programs know."""
        return await self._ask("madvise", advice, gfn, str(pages))

    async def madvise_dontneed(self, gfn: int, pages: int = 1) -> int:
        """Discard memory: its next reader finds zeroes."""
        return await self.madvise("dontneed", gfn, pages)

    async def madvise_free(self, gfn: int, pages: int = 1) -> int:
        """Let the kernel discard memory until it is written again."""
        return await self.madvise("free", gfn, pages)

    async def madvise_pageout(self, gfn: int, pages: int = 1) -> int:
        """Reclaim memory now."""
        return await self.madvise("pageout", gfn, pages)

    async def munmap(self, gfn: int, pages: int = 1) -> int:
        """Unmap memory."""
        return await self._ask("munmap", gfn, str(pages))

    async def mprotect(self, gfn: int, pages: int, prot: str) -> int:
        """Change the rights of memory: `none`, `r` or `rw`."""
        return await self._ask("mprotect", gfn, str(pages), prot)


class Vmm(Host):
    """Threads of the VMM: what hosts do, ioctls and signals."""

    kind = "vmm"

    async def map(
        self,
        gfn: int,
        pages: int,
        *,
        flags: Sequence[str] = ("writable", "executable"),
        backing: str = "anon",
        uaddr: int | None = None,
    ) -> int:
        """Give guest pages memory (SET_GUEST_MEMORY), mapping it first unless it is there.

        Without `uaddr` (bytes) they get the address that the scenario or an earlier map gave
        them, else the next free one.
        """
        words = ["map", hex(gfn), f"{pages * 4}KiB", f"backing={backing}"]
        words.append(f"flags={','.join(flags) or 'none'}")
        if uaddr is not None:
            words.append(f"uaddr={uaddr:#x}")
        return _status(await self.do(" ".join(words)))

    async def unmap(self, gfn: int) -> int:
        """Take the region that begins at a guest page away again."""
        return await self._ask("unmap", gfn)

    async def kill(self) -> int:
        """Send the process a fatal signal; later calls of its threads return -EINTR."""
        return await self._ask("kill")


class Reclaimer(Caller):
    """The kernel's reclaim."""

    kind = "reclaimer"

    async def reclaim(self, gfn: int, pages: int = 1) -> int:
        """Reclaim the memory behind guest pages."""
        return await self._ask("reclaim", gfn, str(pages))

    async def some(self, pages: int) -> int:
        """Reclaim so many pages of its own choice."""
        return await self._ask("reclaim", "some", str(pages))


class OomReaper(Caller):
    """The kernel's OOM reaper."""

    kind = "oom-reaper"

    async def reap(self) -> int:
        """Kill the VMM and take its memory in non-blockable passes."""
        return await self._ask("reap")


class Khugepaged(Caller):
    """The kernel's collapsing of small pages."""

    kind = "khugepaged"

    async def collapse(self, gfn: int, times: int = 1) -> int:
        """Collapse the 2 MiB that a guest page lies in."""
        return await self._ask("collapse", gfn, str(times) if times > 1 else "")
