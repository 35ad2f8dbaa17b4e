"""Huge pages are collapsed, split and reclaimed while processors use them."""

from __future__ import annotations

import anyio
import pytest

from mshv_async import Scenario, World
from mshv_async.driver import Fix1, MshvMemRegion


class WholeChunks(Fix1):
    """Takes a chunk for large only if all of its pages lie in a row.

    fix1 looks at the first one, which a partly discarded huge page still has.
    """

    def chunk_stride(self, region: MshvMemRegion, page_offset: int, page_count: int) -> int:
        stride = super().chunk_stride(region, page_offset, page_count)
        runs = region.pages.runs(page_offset, page_offset + max(stride, 1))
        return stride if stride <= 1 or runs[0][1] - runs[0][0] == stride else 1


HUGE = Scenario.parse("""\
summary = "Two VPs and a huge page"
[host]
memory = "16MiB"
swap = "4MiB"
thp = "always"
[[region]]
gfn = 0x200
size = "2MiB"
backing = "thp"
[[vp]]
count = 2
program = ["read 0x200"]
""")

pytestmark = pytest.mark.mshv(HUGE, driver=WholeChunks, seeds=range(6))


async def test_splits_and_collapses_lose_nothing(world: World) -> None:
    assert await world.vp(0).write(0x200, "first") == 0
    assert await world.vp(1).write(0x3FF, "last") == 0
    async with anyio.create_task_group() as storm:
        storm.start_soon(world.host.madvise_dontneed, 0x280, 4)
        storm.start_soon(world.khugepaged.collapse, 0x200)
        storm.start_soon(world.vp(0).read, 0x281)
        storm.start_soon(world.vp(1).read, 0x200)
    assert await world.vp(1).read(0x200) == "first"
    assert await world.vp(0).read(0x3FF) == "last"
    assert await world.vp(0).read(0x281) == 0


async def test_reclaim_of_a_huge_page_keeps_its_content(world: World) -> None:
    assert await world.vp(0).write(0x201, "kept") == 0
    async with anyio.create_task_group() as storm:
        storm.start_soon(world.reclaimer.reclaim, 0x200, 8)
        storm.start_soon(world.vp(0).read, 0x201)
        storm.start_soon(world.vp(1).write, 0x300, "other")
    assert await world.vp(1).read(0x201) == "kept"
    assert await world.host.touch(0x300) == "other"
