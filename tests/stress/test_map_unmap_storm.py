"""Regions come and go while processors fault on them; what a guest sees is old, new or nothing."""

from __future__ import annotations

import errno

import anyio
import pytest

from mshv_async import Scenario, World

EMPTY = Scenario.parse("""\
summary = "Two VPs, no memory yet"
[host]
swap = "1MiB"
[[vp]]
count = 2
program = ["read 0x200"]
""")

pytestmark = pytest.mark.mshv(EMPTY, driver="fix1+unmap-waits+list-before-map", seeds=range(12))


async def come_and_go(world: World, gfn: int, times: int) -> None:
    for _ in range(times):
        assert await world.vmm.map(gfn, 2) == 0
        await world.host.store(gfn, "host")
        assert await world.vmm.unmap(gfn) == 0


async def access(world: World, vp: int, gfn: int, times: int) -> None:
    for _ in range(times):
        assert await world.vp(vp).write(gfn, f"vp{vp}") in (0, -errno.EFAULT)
        assert await world.vp(vp).read(gfn) in ("host", "vp0", "vp1", 0, -errno.EFAULT)


async def test_faults_on_regions_that_come_and_go(world: World) -> None:
    async with anyio.create_task_group() as storm:
        storm.start_soon(come_and_go, world, 0x200, 3)
        storm.start_soon(access, world, 0, 0x200, 3)
        storm.start_soon(access, world, 1, 0x201, 3)
    assert await world.vp(0).read(0x200) == -errno.EFAULT


async def test_neighbours_do_not_notice(world: World) -> None:
    assert await world.vmm.map(0x210, 1) == 0
    assert await world.vp(1).write(0x210, "mine") == 0
    async with anyio.create_task_group() as storm:
        storm.start_soon(come_and_go, world, 0x200, 2)
        storm.start_soon(come_and_go, world, 0x220, 2)
        storm.start_soon(world.reclaimer.reclaim, 0x210, 1)
        for _ in range(3):
            assert await world.vp(1).read(0x210) == "mine"


async def test_two_maps_of_one_range_are_one_region(world: World) -> None:
    results: list[int] = []

    async def map_it() -> None:
        results.append(await world.vmm.map(0x200, 2))

    async with anyio.create_task_group() as storm:
        storm.start_soon(map_it)
        storm.start_soon(map_it)
        storm.start_soon(access, world, 0, 0x200, 2)
    assert sorted(results) == [-errno.EEXIST, 0]
    assert await world.vmm.unmap(0x200) == 0
    assert await world.vmm.unmap(0x200) == -errno.ENOENT
