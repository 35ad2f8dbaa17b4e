"""A storm of faults and reclaim against a driver of one's own, and the same as a search."""

import anyio
import pytest

from mshv_async import World, explore
from mshv_async.driver import Fix1


class MyDriver(Fix1):
    """Override what your patch changes."""


@pytest.mark.mshv("litmus/two-vps-one-reclaimer", driver=MyDriver, seeds=range(8))
async def test_what_guests_wrote_survives_reclaim(world: World) -> None:
    async with anyio.create_task_group() as storm:
        storm.start_soon(world.vp(0).write, 0x200, "a")
        storm.start_soon(world.vp(1).write, 0x201, "b")
        for _ in range(3):
            storm.start_soon(world.reclaimer.reclaim, 0x200, 2)
    assert await world.vp(1).read(0x200) == "a"
    assert await world.vp(0).read(0x201) == "b"


@pytest.mark.asyncio
async def test_no_interleaving_breaks_my_driver() -> None:
    outcome = await explore("litmus/two-vps-one-reclaimer", driver=MyDriver, schedules=300)
    assert outcome.clean, outcome.report()
