"""The end of partitions and processes: what must be gone, in every order of closing."""

from __future__ import annotations

import pytest
from oracle_playing import REGION, SWAP, finding_of, found, search, silent, thread, vps
from sound_drivers import Sound

from mshv_async.hyperv import HvCall, HvMessageType, HvResult, HvStatus, VirtualProcessor

BY_HYPERVISOR = '[hypervisor]\nscheduler = "hypervisor"\n'
PINNED = "[partition]\nmmu_notifier = false\n"
DEVICE = '\n[[region]]\ngfn = 0x200\nsize = "8KiB"\nbacking = "device"\n'
OTHER = '\n[[process]]\nname = "other"\n'
RUN = vps("write 0x200", "read 0x201")
RUN_ELSEWHERE = OTHER + '\n[[vp]]\nprocess = "other"\nprogram = ["write 0x200", "read 0x201"]\n'
EXIT = thread("vmm", "exit")

WORLDS = {
    "exit": REGION + RUN + EXIT,
    "exit under the hypervisor's scheduler": BY_HYPERVISOR + REGION + RUN + EXIT,
    "exit beside a discard": REGION + RUN + EXIT + thread("host", "madvise dontneed 0x200 2"),
    "exit beside reclaim": SWAP + REGION + RUN + EXIT + thread("reclaimer", "reclaim 0x200 2"),
    "exit beside an unmap": REGION + RUN + EXIT + thread("vmm", "unmap 0x200", "map 0x200 8KiB"),
    "kill": REGION + vps("write 0x200", "read 0x201", count=2) + thread("vmm", "kill"),
    "reaped": REGION + RUN + thread("oom-reaper", "reap"),
    "partition first": REGION + RUN + thread("vmm", "close partition", "close vp 0"),
    "processor first": REGION + RUN + thread("vmm", "close vp 0", "close partition"),
    "closed from both sides": REGION
    + vps("write 0x200", count=2)
    + thread("vmm", "close vp 0", "close partition")
    + thread("vmm", "close vp 1", "close partition"),
    "unmapped, then closed": REGION
    + RUN
    + thread("vmm", "unmap 0x200", "close partition", "close vp 0"),
    "closed beside a discard": REGION
    + RUN
    + thread("vmm", "close partition", "close vp 0")
    + thread("host", "madvise dontneed 0x200 2", "store 0x200"),
    "closed under the hypervisor's scheduler": BY_HYPERVISOR
    + REGION
    + RUN
    + thread("vmm", "close partition", "close vp 0"),
    "pinned": PINNED + REGION + RUN + EXIT,
    "pinned and closed": PINNED + REGION + RUN + thread("vmm", "close vp 0", "close partition"),
    "device memory": DEVICE + RUN + EXIT,
    "outlived by another process": REGION + RUN_ELSEWHERE + EXIT,
    "outlived, by the hypervisor's scheduler": BY_HYPERVISOR + REGION + RUN_ELSEWHERE + EXIT,
    "outlived, and killed": REGION + RUN_ELSEWHERE + thread("vmm", "kill other", "exit"),
    "signals": REGION + RUN + thread("vmm", "signal vp0", "signal vp0"),
    "signals and a close": REGION
    + RUN
    + thread("vmm", "signal vp0", "close vp 0", "close partition"),
    "signals under the hypervisor's scheduler": BY_HYPERVISOR
    + REGION
    + RUN
    + thread("vmm", "signal vp0", "signal vp0"),
    "a processor that comes late": REGION + vps("write 0x200") + thread("vmm", "create-vp 0"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_correct_driver_leaves_nothing_behind(name):
    silent(WORLDS[name], Sound, 25)


@pytest.mark.parametrize("driver", ["v6", "fix1"])
@pytest.mark.parametrize("name", WORLDS)
def test_no_version_confuses_the_oracle(name, driver):
    search("[bounds]\nprogress_steps = 500\n" + WORLDS[name], driver, 5, keep_going=True)


# -- planted ---------------------------------------------------------------------------------


class NeverWithdraws(Sound):
    async def hv_call_withdraw_memory(self, partition_id):
        return 0


class NeverDeletes(Sound):
    async def hv_call(self, code, partition_id, vp_index=0):
        if code is HvCall.DELETE:
            return HvResult(HvStatus.SUCCESS)
        return await super().hv_call(code, partition_id, vp_index)


class ForgetsRegions(Sound):
    async def destroy_regions(self, partition):
        pass


class NoFinalize(Sound):
    async def finalize_partition(self, partition):
        pass

    async def region_unmap(self, region):
        pass


class KeepsAReference(Sound):
    """A processor's last descriptor goes, its reference on the partition stays."""

    async def vp_release(self, vp):
        pass


class KeepsThePartition(Sound):
    """All is torn down but the object itself."""

    async def destroy_partition(self, partition):
        await self.destroy_vps(partition)
        await self.finalize_partition(partition)
        await self.unpublish_partition(partition)
        await self.destroy_regions(partition)
        await self.hv_call_withdraw_memory(partition.pt_id)
        await self.hv_call(HvCall.DELETE, partition.pt_id)


class NeverDrains(Sound):
    async def drain_vp(self, vp):
        pass


CLEAN = "invariant:teardown-clean"
CLOSE = WORLDS["processor first"]


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        (NeverWithdraws, "pages in its pool"),
        (NeverDeletes, "the hypervisor still has it"),
        (ForgetsRegions, "region@0x200 lives on"),
        (NoFinalize, "stay accessible after"),
    ],
)
def test_what_a_destroy_forgets_is_found(driver, told):
    finding = finding_of(CLOSE, driver, CLEAN, told=told)
    assert any(told in line for line in finding.story), finding.story


@pytest.mark.parametrize("driver", [KeepsAReference, KeepsThePartition])
def test_a_partition_that_outlives_its_last_descriptor_is_found(driver):
    finding = finding_of(CLOSE, driver, CLEAN)
    assert finding.title == f"{CLEAN}: at the end (partition)"
    assert "lives on, though its last descriptor was closed" in finding.story[0]


def test_a_fault_that_does_not_keep_the_address_space_loses_pages():
    """bugs.md C17: exit has swept the page table, and the fault of another process goes on."""
    finding = finding_of(WORLDS["outlived by another process"], "fix1", CLEAN)
    assert finding.title == f"{CLEAN}: at the end (mapped after exit)"


def test_a_destroy_that_does_not_wait_for_signals_is_found(monkeypatch):
    """A hypervisor that sends kicks under the root's scheduler too, and a driver that is deaf."""

    async def tell(self):
        await self.signal(HvMessageType.OPAQUE_INTERCEPT)

    monkeypatch.setattr(VirtualProcessor, "_tell_root", tell)
    finding = finding_of(CLOSE, NeverDrains, "invariant:kick", told="one is still under way")
    assert "one is still under way" in finding.story[1]


def test_a_vp_that_is_published_after_its_descriptor_loses_a_kick():
    """bugs.md G01."""
    late = WORLDS["a processor that comes late"]
    found(BY_HYPERVISOR + late, "fix1", "invariant:kick")
