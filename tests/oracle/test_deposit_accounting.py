"""Deposited pages: whose pool, how many, and never freed by the host meanwhile."""

from __future__ import annotations

import pytest
from oracle_playing import finding_of, silent, thread, vps
from sound_drivers import Sound

from mshv_async.hyperv import HvStatus, Pool, memory

NO_POOL = "[hypervisor]\npool = 0\n"
HOT_PLUG = (
    NO_POOL
    + thread("vmm", "map 0x600 8KiB", "unmap 0x600", "map 0x800 8KiB")
    + vps("yield", "read 0x600")
)
SEVERAL = NO_POOL + thread("vmm", "map 0x600 8KiB") + thread("vmm", "map 0x800 8KiB", "unmap 0x800")
INVARIANT = "invariant:deposit-accounting"


class ToTheRoot(Sound):
    """Deposits for everybody in the root's own pool."""

    async def hv_call_deposit_pages(self, partition_id, num_pages):
        return await super().hv_call_deposit_pages(self.hv.root.id, num_pages)


class FreesAnyway(Sound):
    """Frees the pages of a deposit without looking at what became of it."""

    async def hv_call_deposit_pages(self, partition_id, num_pages):
        ret = await super().hv_call_deposit_pages(partition_id, num_pages)
        for lo, hi, _ in self.hv.partition(partition_id).pool.frames.runs(0, 1 << 52):
            self.host_mem.put_page(lo, hi - lo)
        return ret


def test_a_deposit_in_another_pool_than_the_one_that_is_short_is_found():
    finding = finding_of(HOT_PLUG, ToTheRoot, INVARIANT)
    assert finding.title == f"{INVARIANT}: hv_call_deposit_pages"
    assert "found the pool of partition" in finding.story[0]
    assert len(finding.story) == 3


def test_a_host_that_frees_what_lies_in_a_pool_is_found():
    finding = finding_of(HOT_PLUG, FreesAnyway, INVARIANT)
    assert "they lie in the pool of partition" in finding.story[1]


def test_a_refused_deposit_that_kept_pages_is_found_when_the_driver_frees_them(monkeypatch):
    """bugs.md E06: the helper takes it that a failed deposit accepted nothing."""
    accept = memory._accept

    def accept_and_fail(*args):
        taken, _ = accept(*args)
        return taken, HvStatus.OPERATION_DENIED

    monkeypatch.setattr(memory, "_accept", accept_and_fail)
    finding = finding_of(HOT_PLUG, Sound, INVARIANT)
    assert finding.title == f"{INVARIANT}: hv_call_deposit_pages"


def test_a_pool_that_loses_count_is_found(monkeypatch):
    def add_frames(self, lo, hi):
        self.frames.set(lo, hi, True)
        self.deposited += hi - lo - 1

    monkeypatch.setattr(Pool, "add_frames", add_frames)
    finding = finding_of(HOT_PLUG, Sound, INVARIANT)
    assert finding.story[1] == "554 were put in and not taken out"


@pytest.mark.parametrize("scenario", [HOT_PLUG, SEVERAL], ids=["hot plug", "several"])
def test_deposits_for_the_partition_that_asked_are_silent(scenario):
    silent(scenario, Sound)
