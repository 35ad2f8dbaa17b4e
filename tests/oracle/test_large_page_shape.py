"""LARGE operations: judged as they are issued, by alignment and by whose pages they name."""

from __future__ import annotations

import pytest
from oracle_playing import finding_of, search, silent, thread, vps
from sound_drivers import Sound

from mshv_async.driver import HV_MAP_GPA_NO_ACCESS
from mshv_async.hyperv import LARGE_PAGES, MAP_LARGE_PAGE, UNMAP_LARGE_PAGE

TWO_MIB = '[[region]]\ngfn = 0x200\nsize = "2MiB"\n'
ODD_GFN = '[[region]]\ngfn = 0x280\nsize = "2MiB"\nuaddr = 0x100000200000\n'
SHORT = '[[region]]\ngfn = 0x200\nsize = "1MiB"\n'
DISCARD = vps("write 0x200") + thread("host", "madvise dontneed 0x200 8")
ODD_DISCARD = vps("write 0x280") + thread("host", "madvise dontneed 0x280 8")


class LargeMaps(Sound):
    """Takes any 512 pages for a large page, whatever host pages they are."""

    async def region_chunk_remap(self, region, flags, page_offset, page_count, *huge):
        if not page_count % LARGE_PAGES and not flags & HV_MAP_GPA_NO_ACCESS:
            flags |= MAP_LARGE_PAGE
        return await super().region_chunk_remap(region, flags, page_offset, page_count, *huge)


class LargeNoAccess(Sound):
    """Takes access away by large pages, also where a part was meant."""

    async def region_chunk_remap(self, region, flags, page_offset, page_count, *huge):
        if flags & HV_MAP_GPA_NO_ACCESS:
            flags |= MAP_LARGE_PAGE
            page_count = LARGE_PAGES
        return await super().region_chunk_remap(region, flags, page_offset, page_count, *huge)


class LargeUnmaps(Sound):
    """Unmaps by large pages."""

    async def region_chunk_unmap(self, region, flags, page_offset, page_count, *huge):
        return await super().region_chunk_unmap(
            region, flags | UNMAP_LARGE_PAGE, page_offset, LARGE_PAGES, *huge
        )


def test_a_large_map_of_a_page_inside_a_huge_one_is_found():
    finding = finding_of(TWO_MIB + DISCARD, LargeMaps, "invariant:large-page-shape")
    assert finding.title == "invariant:large-page-shape: region_chunk_remap (host page)"
    assert finding.story[1] == "host page 0x3001 is not at a 2 MiB boundary"
    assert len(finding.story) == 3


def test_a_large_operation_at_an_odd_gfn_is_found():
    finding = finding_of(ODD_GFN + ODD_DISCARD, LargeNoAccess, "invariant:large-page-shape")
    assert finding.story[1] == "gfn 0x280 is not at a 2 MiB boundary"


def test_a_large_operation_beyond_its_region_is_found():
    scenario = SHORT + vps("write 0x200") + thread("vmm", "unmap 0x200")
    finding = finding_of(scenario, LargeUnmaps, "invariant:large-page-shape")
    assert finding.title == "invariant:large-page-shape: region_chunk_unmap (extent)"
    assert finding.story[1] == "region@0x200 ends at gfn 0x300, 256 pages earlier"


# The first choice of the first page lies at 2 MiB; that of gfn 0x300 is also that of gfn 0x1000.
ALIGNED_BY_LUCK = (
    '[[region]]\ngfn = 0x200\nsize = "2MiB"\nuaddr = 0x1000001ff000\n\n'
    '[[region]]\ngfn = 0x1000\nsize = "4KiB"\nuaddr = 0x1000012ff000\n'
    + vps("write 0x1000", "write 0x200")
)


def test_small_pages_that_are_aligned_by_luck_are_found_to_be_others():
    """The first page of the window lies at 2 MiB, and one of the rest elsewhere."""
    result = search(ALIGNED_BY_LUCK, LargeMaps, 300, strategy="random", keep_going=True)
    stories = {f.finding.title: f.finding.story for f in result.findings}
    story = stories["invariant:large-page-shape: region_chunk_remap (pages)"]
    assert story[1] == "that gives gfn 0x300 host page 0x3300"
    assert story[2] == "which is not its page: the driver recorded 0x2300"


@pytest.mark.parametrize("scenario", [TWO_MIB + DISCARD, ODD_GFN + ODD_DISCARD, ALIGNED_BY_LUCK])
def test_small_operations_are_silent(scenario):
    silent(scenario, Sound)
