"""Memory runs out: kswapd reclaims, the OOM killer takes a process, the guest loses nothing."""

from __future__ import annotations

import errno

import anyio
import pytest

from mshv_async import Scenario, World

TIGHT = """\
summary = "Two VPs on a host that is nearly full"
[host]
memory = "{memory}"
swap = "{swap}"
watermark = 8
kswapd = true
oom_killer = true
[[process]]
name = "hog"
memory = "128KiB"
[[region]]
gfn = 0x200
size = "64KiB"
[[vp]]
count = 2
program = ["read 0x200"]
[[vp]]
process = "hog"
program = ["read 0x200"]
"""
SWAPPING = Scenario.parse(TIGHT.format(memory="256KiB", swap="1MiB"))
WITHOUT_SWAP = Scenario.parse(TIGHT.format(memory="184KiB", swap="0"))


async def fill(world: World) -> None:
    async def write(vp: int) -> None:
        for gfn in range(0x200 + vp, 0x210, 2):
            assert await world.vp(vp).write(gfn, f"{gfn:x}") == 0

    async with anyio.create_task_group() as storm:
        storm.start_soon(write, 0)
        storm.start_soon(write, 1)
    for gfn in range(0x200, 0x210):
        assert await world.vp(gfn & 1).read(gfn) == f"{gfn:x}"


@pytest.mark.mshv(SWAPPING, driver="fix1", seeds=range(6))
async def test_what_kswapd_swaps_out_comes_back(world: World) -> None:
    async with anyio.create_task_group() as storm:
        storm.start_soon(fill, world)
        storm.start_soon(world.reclaimer.some, 20)
    assert await world.vp(2).read(0x200) == "200", "nobody had to be killed"


@pytest.mark.mshv(WITHOUT_SWAP, driver="fix1", seeds=range(6), strategy="fair")
async def test_the_oom_killer_takes_the_other_process(world: World) -> None:
    """Under a fair scheduler: a reaper that gets no turn gives up, and another one is killed."""
    await fill(world)
    assert await world.vp(2).read(0x200) == -errno.EINTR
