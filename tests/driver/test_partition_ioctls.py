"""A partition from creation to deletion, by ioctls alone, and what their errors are."""

from __future__ import annotations

import pytest
from driver_world import GFN, RW, UADDR, HostPages, Machine, argument, touches, verdict, write

from mshv_async.driver import MshvUserMemRegion, PartitionIoctl
from mshv_async.guest import GuestProcessor
from mshv_async.host import mmap_fixed
from mshv_async.hyperv import SchedulerType
from mshv_async.sim import Injection, cond_resched, current, is_freed
from mshv_async.vmm import VmmProcess

PROFILES = ["v6", "v7", "v9", "fix1"]


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize("scheduler", [SchedulerType.ROOT, SchedulerType.CLASSIC_LP])
def test_a_life(driver, scheduler):
    machine = Machine(driver, scheduler=scheduler, pool=0)
    d, seen = machine.driver, []
    free = machine.host.nr_free

    async def vmm():
        ret, partition = await d.ioctl_create_partition()
        assert ret == 0
        steps = [
            (PartitionIoctl.INITIALIZE, None),
            (PartitionIoctl.INITIALIZE, None),
            (PartitionIoctl.CREATE_VP, 0),
            (PartitionIoctl.CREATE_VP, 0),
            (PartitionIoctl.CREATE_VP, 256),
            (PartitionIoctl.SET_GUEST_MEMORY, argument()),
        ]
        await mmap_fixed(machine.mm, UADDR, 8192, "rw")
        for ioctl, arg in steps:
            seen.append(await d.partition_ioctl(partition, ioctl, arg))
        process = VmmProcess(machine.mm, d, partition, machine.vmm.addresses)
        hv_vp = machine.hv.partition(partition.pt_id).vps[0]
        guest = GuestProcessor(hv_vp, touches(write(GFN, "a")), HostPages(machine.host))
        rt = current().rt
        vp_thread = process.start_vp(rt, 0, guest)
        guest.start(rt, vp_thread)
        while not vp_thread.finished:
            await cond_resched()
        region, pt_id = partition.pt_mem_regions.first, partition.pt_id
        await d.destroy_partition(partition)
        seen.append(is_freed(partition) and is_freed(region))
        seen.append(machine.hv.partition(pt_id))

    rt = machine.play(bodies={"vmm": vmm})
    assert verdict(rt) == "clean"
    assert seen == [0, 0, 0, -17, -22, 0, True, None]
    assert machine.mm.subscriptions.itree == ()
    # The two pages that the guest touched are the process's; all deposits came back.
    assert free - machine.host.nr_free == 2


@pytest.mark.parametrize(
    ("mem", "ret"),
    [
        (MshvUserMemRegion(0, GFN, UADDR, RW), -22),
        (MshvUserMemRegion(4095, GFN, UADDR, RW), -22),
        (MshvUserMemRegion(4096, GFN, UADDR + 1, RW), -22),
        (MshvUserMemRegion(4096, GFN, UADDR, 8), -22),
        (MshvUserMemRegion(4096, GFN, UADDR, RW, 1), -22),
        (MshvUserMemRegion(4096, GFN, 0x7000_0000, RW), -22),
        (MshvUserMemRegion(4096, GFN, 1 << 47, RW), -22),
        (MshvUserMemRegion(4096, 0x300, UADDR, 4), -22),
        (MshvUserMemRegion(4096, GFN, UADDR, 4), -22),
        (MshvUserMemRegion(8192, GFN, UADDR, 4), 0),
    ],
)
def test_arguments_of_set_guest_memory(mem, ret):
    machine = Machine(regions=[argument()])
    assert one_ioctl(machine, mem) == ret


@pytest.mark.parametrize("driver", PROFILES)
def test_no_memory_for_a_region(driver):
    machine = Machine(driver)
    machine.mm.add_vma(UADDR, 8192)
    no_memory = Injection(at="alloc.region", errno="ENOMEM", force=True)
    assert one_ioctl(machine, argument(), no_memory) == -12
    assert machine.regions() == []


@pytest.mark.parametrize("driver", PROFILES)
def test_d17_a_notifier_that_cannot_be_inserted_makes_the_region_pinned(driver):
    machine = Machine(driver)
    machine.mm.add_vma(UADDR, 8192)
    failure = Injection(at="notifier.insert", errno="ENOMEM", force=True)
    assert one_ioctl(machine, argument(), failure) == 0
    assert machine.regions()[0].pages.total(0, 2) == 2
    assert [e.rights for _, _, e in machine.slat.runs(GFN, GFN + 2)] == [0xF]


@pytest.mark.parametrize(("driver", "ret"), [("v6", 0), ("v9", 0), ("fix1", -12)])
def test_d13_a_short_pin_is_progress_until_it_is_an_error(driver, ret):
    machine = Machine(driver, mmu_notifier=False)
    machine.mm.add_vma(UADDR, 8192)
    short = Injection(at="pin", status="SHORT", force=True)
    assert one_ioctl(machine, argument(), short) == ret
    pinned = sum(s.pins * (hi - lo) for lo, hi, s in machine.host.frames.runs(0, 4096))
    assert pinned == (2 if ret == 0 else 0)


@pytest.mark.parametrize("driver", PROFILES)
def test_d11_a_pinned_region_that_could_not_be_mapped_is_reported_as_mapped(driver):
    machine = Machine(driver, mmu_notifier=False)
    machine.mm.add_vma(UADDR, 8192)
    failure = Injection(at="hypercall.map_gpa", status="OPERATION_FAILED", force=True)
    assert one_ioctl(machine, argument(), failure) == 0
    assert machine.slat.get(GFN) is None


def one_ioctl(machine, mem, *injections):
    results = []

    async def ioctl():
        results.append(
            await machine.driver.partition_ioctl(
                machine.partition, PartitionIoctl.SET_GUEST_MEMORY, mem
            )
        )

    rt = machine.play(bodies={"vmm": ioctl}, injections=injections)
    assert verdict(rt) == "clean"
    return results[0]
