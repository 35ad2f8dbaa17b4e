"""2 MiB and 1 GiB pages: what each version maps large, what goes wrong, and what mends it."""

from __future__ import annotations

import pytest
from driver_world import GFN, RW, UADDR, Machine, Planted, argument, read, touches, verdict, write

THP = {"thp": "always"}
SMALL = (GFN, GFN + 1024, "ram", False)


def faulted(driver, backing, *, gfn=GFN, pages=512, uaddr=None, guest=None, **options):
    """Let a guest touch the first page of a region and return the machine."""
    machine = Machine(
        driver,
        guests=[touches(write(guest or gfn, "a"), read(guest or gfn))],
        regions=[argument(gfn, pages, RW, uaddr)],
        backing=backing,
        **options,
    )
    assert verdict(machine.play()) == "clean"
    return machine


@pytest.mark.parametrize(
    ("driver", "backing", "host", "large"),
    [
        # Up to v6 only hugetlb counts (B08); the 4 KiB entries are right, only slow.
        ("v6", "thp", THP, False), ("v6", "hugetlb-2m", {"hugetlb_2m": 1}, True),
        ("v7", "thp", THP, True), ("v7", "hugetlb-2m", {"hugetlb_2m": 1}, False),
        ("v7", "hugetlb-2m", {"hugetlb_2m": 1, "thp": "always"}, True),
        ("v9", "thp", THP, True), ("v9", "hugetlb-2m", {"hugetlb_2m": 1}, True),
        ("fix1", "thp", THP, True), ("fix1", "hugetlb-2m", {"hugetlb_2m": 1}, True),
        ("v6+per-chunk-stride", "thp", THP, True),
        ("v6+per-chunk-stride", "hugetlb-2m", {"hugetlb_2m": 1}, True),
    ],
)  # fmt: skip
def test_what_is_mapped_large(driver, backing, host, large):
    machine = faulted(driver, backing, host=host)
    assert machine.entries() == [(GFN, GFN + 512, "ram", large)]
    assert machine.accesses == [("0w", GFN, "a"), ("0r", GFN, "a")]
    assert machine.unhandled == []


@pytest.mark.parametrize("driver", ["v6", "v9", "fix1", "v6+per-chunk-stride"])
def test_a_large_region_comes_and_goes(driver):
    """Faulted in, discarded as a whole, faulted in again, unmapped: nothing is left."""
    machine = Machine(
        driver,
        guests=[touches(write(GFN, "a"))],
        regions=[argument(GFN, 512)],
        backing="thp",
        host=THP,
    )
    program = ["sleep 5000000", "madvise dontneed 0x200 512", "unmap 0x200"]
    assert verdict(machine.play({"vmm": program}, mode="timed")) == "clean"
    assert not [e for e in machine.entries() if e[2] == "ram"]
    assert machine.regions() == []


# -- A11, B05: the first invalidation of a partial discard ---------------------------------------


def discard_eight(driver, pages=1024):
    machine = Machine(
        driver,
        guests=[touches(write(GFN, "a"))],
        regions=[argument(GFN, pages)],
        backing="thp",
        host=THP,
    )
    seen = []
    machine.watch = lambda _, lo, hi: seen.append((hi - lo, machine.entries(GFN, GFN + 512)))
    rt = machine.play(
        {"host": ["madvise dontneed 0x200 8"]},
        strategy=Planted([("vp0", None)]),
        watch={"slat.change": machine.watch},
    )
    return machine, verdict(rt), seen


@pytest.mark.parametrize("driver", ["v7", "v9"])
def test_b05_a_partial_discard_runs_past_the_region(driver):
    _, result, seen = discard_eight(driver)
    assert result == "oops"
    # All 2 MiB were made inaccessible for the eight pages.
    assert (512, [(GFN, GFN + 512, "noaccess", True)]) in seen


@pytest.mark.parametrize("driver", ["fix1", "v7+aligned-stride", "v9+aligned-stride"])
def test_a11_the_table_goes_from_2_mib_over_504_pages_to_nothing(driver):
    machine, result, seen = discard_eight(driver)
    assert result == "clean"
    states = [entries for _, entries in seen]
    split = [(GFN, GFN + 8, "noaccess", False), (GFN + 8, GFN + 512, "ram", False)]
    assert split in states
    assert states.index(split) > states.index([(GFN, GFN + 512, "ram", True)])
    assert {kind for _, _, kind, _ in machine.entries(GFN, GFN + 512)} == {"noaccess"}


# -- B06: from the middle of a folio -------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "served"),
    [("v7", False), ("v9", False), ("fix1", True), ("v9+aligned-stride", True),
     ("v7+aligned-stride", True), ("v6", True), ("v6+per-chunk-stride", True)],
)  # fmt: skip
def test_b06_a_region_that_begins_inside_a_thp(driver, served):
    """The window's first page is a tail; taken for a large page it is refused."""
    machine = Machine(
        driver,
        guests=[touches(write(GFN, "a"))],
        host=THP,
        host_pages=8192,
    )
    machine.mm.add_vma(UADDR, 8 << 20, backing="thp")
    machine.driver.setup_region(machine.partition, argument(GFN, 512, RW, UADDR + 0x10000))
    assert verdict(machine.play()) == "clean"
    assert machine.unhandled == ([] if served else [GFN])


# -- B02: one flag for the region ----------------------------------------------------------------


def mixed_region(driver):
    """2 MiB of hugetlb, then 2 MiB of small pages whose first frame is not 2 MiB aligned."""
    machine = Machine(
        driver,
        guests=[touches(write(GFN, "a"), write(GFN + 512, "b"), read(GFN + 513))],
        host={"hugetlb_2m": 1},
    )
    machine.mm.add_vma(UADDR, 2 << 20, backing="hugetlb-2m")
    machine.mm.add_vma(UADDR + (2 << 20), 2 << 20)
    machine.driver.setup_region(machine.partition, argument(GFN, 1024))
    assert verdict(machine.play()) == "clean"
    return machine


def test_b02_after_a_huge_page_every_aligned_window_is_taken_for_one():
    machine = mixed_region("v6")
    assert machine.unhandled == [GFN + 512, GFN + 513]


@pytest.mark.parametrize("driver", ["v6+per-chunk-stride", "v9", "fix1"])
def test_b02_mended_each_window_has_its_own_size(driver):
    machine = mixed_region(driver)
    assert machine.unhandled == []
    assert machine.entries() == [
        (GFN, GFN + 512, "ram", True),
        (GFN + 512, GFN + 1024, "ram", False),
    ]


# -- B09: 1 GiB ----------------------------------------------------------------------------------

GIB = 1 << 18


@pytest.mark.parametrize(
    ("driver", "served"),
    [("v6", True), ("v7", False), ("v9", False), ("fix1", False), ("v9+aligned-stride", False),
     ("fix1+huge-order-stride", True), ("v9+aligned-stride+huge-order-stride", True)],
)  # fmt: skip
def test_b09_a_region_on_1_gib_pages(driver, served):
    machine = Machine(
        driver,
        guests=[touches(write(GIB, "a"), write(GIB + 512, "b"))],
        regions=[argument(GIB, GIB, RW, 0x4000_0000)],
        backing="hugetlb-1g",
        host={"hugetlb_1g": 1},
    )
    assert verdict(machine.play()) == "clean"
    large = [(lo, hi) for lo, hi, kind, large in machine.entries() if kind == "ram" and large]
    if served:
        assert machine.unhandled == []
        assert large == [(GIB, GIB + 1024)]
    else:
        # The head is refused; v7 refuses its tails too, the others map them page by page.
        assert machine.unhandled[0] == GIB
        assert large == []


# -- pinned regions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "backing", "host", "large"),
    [
        ("v6", "hugetlb-2m", {"hugetlb_2m": 2}, True), ("v6", "thp", THP, False),
        ("v9", "hugetlb-2m", {"hugetlb_2m": 2}, True), ("v9", "thp", THP, True),
        ("fix1", "hugetlb-2m", {"hugetlb_2m": 2}, True), ("fix1", "thp", THP, True),
    ],
)  # fmt: skip
def test_a_pinned_region_is_mapped_and_unmapped_in_its_size(driver, backing, host, large):
    machine = Machine(driver, mmu_notifier=False, host=host)
    machine.mm.add_vma(UADDR, 4 << 20, backing=backing)
    assert verdict(machine.play({"vmm": ["map 0x200 4MiB"]})) == "clean"
    assert machine.ioctls == [("map_user_memory", 0)]
    assert machine.entries() == [(GFN, GFN + 1024, "ram", large)]
    again = Machine(driver, mmu_notifier=False, host=host)
    again.mm.add_vma(UADDR, 4 << 20, backing=backing)
    assert verdict(again.play({"vmm": ["map 0x200 4MiB", "unmap 0x200"]})) == "clean"
    assert again.entries() == []
    assert not sum(s.pins * (b - a) for a, b, s in again.host.frames.runs(0, 1 << 40))


@pytest.mark.parametrize("driver", ["v6", "v7", "v9", "fix1"])
def test_set_up_builds_what_a_pinned_map_would(driver):
    options = {"mmu_notifier": False, "host": {"hugetlb_2m": 2, "thp": "always"}}
    built = Machine(driver, regions=[argument(GFN, 1024)], backing="hugetlb-2m", **options)
    mapped = Machine(driver, **options)
    mapped.mm.add_vma(UADDR, 4 << 20, backing="hugetlb-2m")
    assert verdict(mapped.play({"vmm": ["map 0x200 4MiB"]})) == "clean"
    assert built.entries() == mapped.entries()
