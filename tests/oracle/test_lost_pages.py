"""Host pages that nobody holds any more when all is over."""

from __future__ import annotations

from oracle_playing import REGION, finding_of, silent, thread, vps
from sound_drivers import Sound

from mshv_async.host import zap

DISCARD = REGION + vps("write 0x200", "read 0x201") + thread("host", "madvise dontneed 0x200 2")


def test_pages_whose_entries_went_and_that_were_not_released_are_found(monkeypatch):
    async def release(host, gathered):
        pass

    monkeypatch.setattr(zap, "release", release)
    finding = finding_of(DISCARD, Sound, "invariant:teardown-clean")
    assert "are allocated, but not mapped anywhere" in finding.story[0]


class KeepsTheSpare(Sound):
    """Allocates a page for each fault and forgets it."""

    async def region_handle_gfn_fault(self, region, gfn):
        await self.host_mem.alloc_pages(1, "spare")
        return await super().region_handle_gfn_fault(region, gfn)


def test_a_page_that_the_driver_forgets_is_found():
    finding = finding_of(DISCARD, KeepsTheSpare, "invariant:teardown-clean")
    assert "nobody can free them any more" in finding.story[1]


def test_when_all_is_mapped_or_free_it_is_silent():
    silent(DISCARD, Sound)
