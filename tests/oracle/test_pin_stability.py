"""Pins: what a pinned region maps stays where it is, until it is unpinned once."""

from __future__ import annotations

import pytest
from oracle_playing import REGION, SWAP, finding_of, silent, thread, vps
from sound_drivers import Sound

from mshv_async.host import reclaim, zap

PINNED = "[partition]\nmmu_notifier = false\n"
UNMAP = (
    PINNED
    + REGION
    + vps("write 0x200", "read 0x200")
    + thread("vmm", "unmap 0x200", "map 0x200 8KiB", "unmap 0x200")
)
RECLAIM = (
    SWAP
    + PINNED
    + REGION
    + vps("write 0x200", "read 0x200")
    + thread("reclaimer", "reclaim 0x200 2", "reclaim some 2")
    + thread("host", "madvise pageout 0x200 2", "madvise dontneed 0x200 1", "touch 0x200")
)
ALIASES = (
    PINNED
    + """
[[region]]
gfn = 0x200
size = "8KiB"
uaddr = 0x100000200000

[[region]]
gfn = 0x400
size = "12KiB"
uaddr = 0x100000200000
"""
    + vps("write 0x200", "read 0x400")
    + thread("vmm", "unmap 0x200", "unmap 0x400")
    + thread("host", "munmap @0x100000200000 1")
)


class KeepsPins(Sound):
    """Destruction forgets the pages without unpinning them."""

    def page_pin_release(self, runs):
        pass


class UnpinsTwice(Sound):
    """Two clean-ups of the same pages, the second finds what it takes for its own."""

    def page_pin_release(self, runs):
        for lo, hi in runs:
            self.host_mem.unpin(lo, hi - lo)
            if self.host_mem.state(lo).pins:
                self.host_mem.unpin(lo, hi - lo)


class MapsUnpinned(Sound):
    """The pins are given back as soon as the pages are known."""

    async def region_pin(self, region):
        ret = await super().region_pin(region)
        if not ret:
            for lo, hi, page in region.pages.runs(0, region.nr_pages):
                self.host_mem.unpin(page.pfn, hi - lo)
        return ret


def test_pins_that_no_region_holds_any_more_are_found():
    finding = finding_of(UNMAP, KeepsPins, "invariant:pin-stability")
    assert finding.story[-1] == "no region that could unpin them is left"


def test_a_region_that_maps_pages_it_does_not_pin_is_found():
    scenario = PINNED + thread("vmm", "map 0x200 8KiB") + vps("yield", "read 0x200")
    finding = finding_of(scenario, MapsUnpinned, "invariant:pin-stability")
    assert finding.story[-1] == "the region is not movable, and these pages are not pinned"


def test_the_pin_of_another_region_given_away_is_found():
    finding = finding_of(ALIASES, UnpinsTwice, "invariant:pin-stability")
    assert "unpinned" in finding.story[0]


def test_reclaim_that_does_not_look_for_pins_is_found(monkeypatch):
    monkeypatch.setattr(reclaim, "_pinned", lambda host, pfn, n: False)
    monkeypatch.setattr(reclaim, "_unpinned", lambda host, lo, hi: [(lo, hi)])
    finding = finding_of(RECLAIM, Sound, "invariant:pin-stability")
    assert "though nobody discarded the content" in finding.story[1]


def test_a_pinned_page_that_is_freed_is_found(monkeypatch):
    async def free_at_once(host, gathered):
        for lo, hi in gathered:
            host.free_pages(lo, hi - lo)

    monkeypatch.setattr(zap, "release", free_at_once)
    scenario = PINNED + REGION + thread("host", "munmap 0x200 1")
    finding = finding_of(scenario, Sound, "invariant:pin-stability")
    assert finding.story[0].startswith("pages ")


@pytest.mark.parametrize("scenario", [UNMAP, RECLAIM, ALIASES], ids=["unmap", "reclaim", "alias"])
def test_pins_that_are_kept_and_given_back_once_are_silent(scenario):
    silent(scenario, Sound)
