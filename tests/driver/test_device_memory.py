"""Device memory: mapped by consecutive host pages, never faulted, and when it goes away."""

from __future__ import annotations

import pytest
from driver_world import GFN, UADDR, Machine, argument, read, touches, verdict, write

PROFILES = ["v6", "v7", "v9", "fix1"]


def bar(driver, programs=(), **options):
    """A machine whose VMM has 2 MiB of device memory at ``UADDR``."""
    machine = Machine(driver, **options)
    vma = machine.mm.add_vma(UADDR, 2 << 20, backing="device")
    rt = machine.play({"vmm": list(programs)}) if programs else None
    return machine, vma.pgoff, rt


@pytest.mark.parametrize("driver", PROFILES)
def test_it_is_mapped_uncached_page_by_page_from_the_first_pfn(driver):
    machine, pfn, rt = bar(driver, ["map 0x200 16KiB"])
    assert verdict(rt) == "clean"
    assert machine.ioctls == [("map_user_memory", 0)]
    runs = machine.slat.runs(0, 1 << 40)
    assert [(lo, hi, e.kind, e.pfn, e.rights) for lo, hi, e in runs] == [
        (GFN, GFN + 4, "mmio", pfn, 0x3)
    ]
    region = machine.regions()[0]
    assert region.pages.total(0, 4) == 0
    assert machine.mm.subscriptions is None


@pytest.mark.parametrize("driver", PROFILES)
def test_set_up_builds_the_same(driver):
    mapped, _, _ = bar(driver, ["map 0x200 2MiB"])
    built = Machine(driver, regions=[argument(GFN, 512)], backing="device")
    assert built.entries() == mapped.entries()
    fields = ("is_ram", "range_pinned", "mreg_type")
    ours, theirs = built.regions()[0], mapped.regions()[0]
    assert [getattr(ours, f) for f in fields] == [getattr(theirs, f) for f in fields]


@pytest.mark.parametrize("driver", PROFILES)
def test_pages_that_are_ram_are_refused(driver):
    machine = Machine(driver, host={"hugetlb_2m": 1})
    ram = [5, machine.host.folios.runs(0, 1 << 40)[0][0]]
    acts = [lambda d, pfn=pfn: d.hv_call_map_mmio_pages(2, GFN, pfn, 4) for pfn in ram]
    assert machine.call(*acts) == [-22, -22]
    assert machine.entries() == []


@pytest.mark.parametrize("driver", PROFILES)
def test_the_guest_reads_and_writes_it_without_an_exit(driver):
    machine = Machine(
        driver,
        guests=[touches(read(GFN), write(GFN + 1))],
        regions=[argument(GFN, 2)],
        backing="device",
    )
    rt = machine.play()
    assert verdict(rt) == "clean"
    assert machine.unhandled == []
    assert len(machine.accesses) == 2
    assert rt.warnings == {}


@pytest.mark.parametrize("driver", PROFILES)
def test_d15_unmapped_device_memory_stays_in_the_guest(driver):
    machine, _, rt = bar(driver, ["map 0x200 16KiB", "unmap 0x200"])
    assert verdict(rt) == "clean"
    assert machine.regions() == []
    assert machine.entries() == [(GFN, GFN + 4, "mmio", False)]


@pytest.mark.parametrize("driver", PROFILES)
def test_d15_mended(driver):
    machine, _, rt = bar(f"{driver}+unmap-mmio", ["map 0x200 16KiB", "unmap 0x200"])
    assert verdict(rt) == "clean"
    assert machine.entries() == []


@pytest.mark.parametrize("driver", PROFILES)
def test_unmap_mmio_leaves_other_regions_as_they_were(driver):
    for name in (driver, f"{driver}+unmap-mmio"):
        machine = Machine(name, guests=[touches(write(GFN))], regions=[argument(GFN, 4)])
        program = ["sleep 9000000", "unmap 0x200"]
        assert verdict(machine.play({"vmm": program}, mode="timed")) == "clean"
        assert not [e for e in machine.entries() if e[2] == "ram"]
