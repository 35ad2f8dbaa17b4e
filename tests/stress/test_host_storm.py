"""The host discards, protects and reclaims memory under the guest's feet, and kills its VMM."""

from __future__ import annotations

import errno
from functools import partial

import anyio
import pytest

from mshv_async import Scenario, World

PAGES = Scenario.parse("""\
summary = "Two VPs and four pages"
[host]
swap = "1MiB"
[[region]]
gfn = 0x200
size = "16KiB"
[[vp]]
count = 2
program = ["read 0x200"]
""")

pytestmark = pytest.mark.mshv(PAGES, driver="fix1", seeds=range(12))


async def test_a_page_holds_what_was_written_last_or_nothing(world: World) -> None:
    async def discards() -> None:
        for first in (0x200, 0x201, 0x200):
            assert await world.host.madvise_dontneed(first, 2) == 0
            assert await world.host.madvise_pageout(first, 2) == 0

    async def writes(vp: int) -> None:
        for gfn in (0x200, 0x201, 0x202):
            assert await world.vp(vp).write(gfn, f"{gfn:x}") == 0
            assert await world.vp(1 - vp).read(gfn) in (f"{gfn:x}", 0)

    async with anyio.create_task_group() as storm:
        storm.start_soon(discards)
        storm.start_soon(writes, 0)
        storm.start_soon(writes, 1)
        storm.start_soon(world.reclaimer.some, 3)
    for gfn in (0x200, 0x201, 0x202):
        assert await world.vp(0).write(gfn, "last") == 0
    await world.reclaimer.reclaim(0x200, 4)
    assert [await world.vp(1).read(gfn) for gfn in (0x200, 0x201, 0x202)] == ["last"] * 3


async def test_rights_taken_and_given_back_lose_nothing(world: World) -> None:
    assert await world.vp(0).write(0x203, "kept") == 0
    async with anyio.create_task_group() as storm:
        storm.start_soon(world.host.mprotect, 0x200, 4, "r")
        storm.start_soon(world.host.touch, 0x203)
        storm.start_soon(world.reclaimer.reclaim, 0x203)
    assert await world.host.mprotect(0x200, 4, "rw") == 0
    assert await world.vp(1).read(0x203) == "kept"
    assert await world.vp(1).write(0x203, "new") == 0
    assert await world.host.touch(0x203) == "new"


async def test_everybody_leaves_a_killed_vmm(world: World) -> None:
    results: list[object] = []

    async def keep(call: partial[object]) -> None:
        results.append(await call())

    async with anyio.create_task_group() as storm:
        for vp in (0, 1):
            storm.start_soon(keep, partial(world.vp(vp).write, 0x200 + vp))
            storm.start_soon(keep, partial(world.vp(vp).read, 0x202))
        storm.start_soon(keep, partial(world.host.madvise_dontneed, 0x200, 4))
        storm.start_soon(world.vmm.kill)
    assert set(results) <= {0, "vp0.1", "vp1.1", -errno.EINTR}
    assert await world.vp(0).read(0x200) == -errno.EINTR


async def test_the_oom_reaper_comes_in_the_middle(world: World) -> None:
    async with anyio.create_task_group() as storm:
        for vp in (0, 1):
            storm.start_soon(world.vp(vp).write, 0x200 + vp)
        storm.start_soon(world.host.madvise_dontneed, 0x200, 4)
        storm.start_soon(world.oom_reaper.reap)
    assert await world.host.touch(0x200) == -errno.EINTR
