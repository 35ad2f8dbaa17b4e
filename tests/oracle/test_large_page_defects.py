"""What versions do with huge pages, devices and deposits, and what is left with each cure."""

from __future__ import annotations

import pytest
from oracle_playing import REGION, found, search, silent, thread, vps
from sound_drivers import Sound
from test_huge_worlds import WORLDS

SHAPE = "invariant:large-page-shape"
PART = WORLDS["a part discarded"]
MIXED = WORLDS["of several kinds"]
DEVICE = WORLDS["memory in a device's place"]
GIGABYTE = WORLDS["one gigabyte"]
NO_TABLES = "[hypervisor]\npool = 0\nno_access_tables = false\n"
DEPOSIT = (
    NO_TABLES
    + REGION
    + vps("write 0x200", "read 0x201")
    + thread("host", "madvise dontneed 0x200 1")
)
ROOT_SHORT = '[hypervisor]\ntables = "root"\n' + thread("vmm", "map 0x600 8KiB", "unmap 0x600")


def titles(scenario, driver, schedules=120):
    found_titles = set()
    for strategy in ("portfolio", "random"):
        result = search(scenario, driver, schedules, strategy=strategy, keep_going=True)
        found_titles |= {f.finding.title for f in result.findings}
    return found_titles


def test_a_partial_invalidation_takes_a_whole_stride_in_v9():
    """bugs.md A11, B05."""
    assert f"{SHAPE}: region_chunk_remap (gfn)" in titles(PART, "v9")
    assert f"{SHAPE}: region_chunk_remap (gfn)" not in titles(PART, "fix1")


def test_a_huge_page_that_was_partly_discarded_is_mapped_large_in_every_version():
    """The head is asked, and 512 pages are mapped: others lie where a part was discarded.

    The folio stays whole until the deferred split, and the guest gets its orphaned pages.
    """
    for driver in ("v9", "v9+aligned-stride", "fix1"):
        assert f"{SHAPE}: region_chunk_remap (pages)" in titles(PART, driver), driver
    silent(PART, Sound, 60)


def test_one_huge_page_makes_all_windows_large_in_v6():
    """bugs.md B02."""
    found(MIXED, "v6", SHAPE)
    assert f"{SHAPE}: region_remap_pages (host page)" not in titles(MIXED, "v6+per-chunk-stride")


@pytest.mark.parametrize("driver", ["v7", "v9", "fix1"])
def test_a_gigabyte_is_refused(driver):
    """bugs.md B09; what was recorded for the refused map stays recorded."""
    found(GIGABYTE, driver, "invariant:page-array", 20)


def test_a_gigabyte_in_strides_of_two_megabytes_is_silent():
    silent(GIGABYTE, "fix1+huge-order-stride", 20)


@pytest.mark.parametrize("driver", ["v6", "fix1"])
def test_a_device_stays_in_reach_after_its_region(driver):
    """bugs.md D15."""
    found(DEVICE, driver, "invariant:teardown-clean", 20)


def test_a_device_that_is_unmapped_is_out_of_reach():
    silent(DEVICE, "fix1+unmap-mmio+list-before-map+unmap-waits", 60)


@pytest.mark.parametrize("driver", ["v6", "fix1"])
def test_a_deposit_under_the_region_mutex_is_noted(driver):
    """bugs.md C23, A09."""
    found(DEPOSIT, driver, "invariant:reclaim-under-lock", 20)


def test_a_deposit_outside_the_region_mutex_is_silent():
    silent(DEPOSIT, "fix1+deposit-outside-mutex", 60)


def test_a_deposit_for_the_root_goes_to_the_child():
    """bugs.md E05."""
    found(ROOT_SHORT, "fix1", "invariant:deposit-accounting", 20)
    silent(ROOT_SHORT, "fix1+deposit-by-status", 60)
