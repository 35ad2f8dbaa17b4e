"""What v6 gets wrong by spec.md 6.6, and what fix1 still does; each as the oracle sees it."""

from __future__ import annotations

import pytest
from oracle_playing import (
    READ_ONLY_REGION,
    REGION,
    SWAP,
    failing_map,
    found,
    search,
    silent,
    thread,
    vps,
)
from sound_drivers import Sound

STRICT = "panic_on_warn = true\n"
MAP = "map 0x200 8KiB"
STORE_AT = "store 0x200"
FAILING_CALLBACK = (
    REGION
    + vps("write 0x200")
    + thread("host", "madvise dontneed 0x200 1")
    + failing_map("region_interval_invalidate", rep=0)
)
NEW_REGION = thread("vmm", MAP) + thread("host", STORE_AT, "madvise dontneed 0x200 2")
FAILED_MAP = thread("vmm", MAP, "madvise dontneed 0x200 1") + failing_map("map_user_memory", rep=0)
REAPED = STRICT + REGION + vps("write 0x200") + thread("oom-reaper", "reap")
READ_ONLY_VMA = REGION + vps("read 0x200") + thread("host", "touch 0x200", "mprotect 0x200 2 r")
UNMAPPED = REGION + vps("write 0x200", count=3) + thread("vmm", "unmap 0x200")
WRITTEN_READ_ONLY = "[bounds]\nprogress_steps = 300\n" + READ_ONLY_REGION + vps("write 0x200")
PARTLY_GONE = REGION + vps("write 0x200", "read 0x200") + thread("host", "munmap 0x201 1")
LAZY = (
    SWAP
    + REGION
    + vps("write 0x200", "read 0x200")
    + thread("host", STORE_AT, "madvise free 0x200 1", "yield", "madvise pageout 0x200 1")
)
HALF_MAPPED = (
    '[[region]]\ngfn = 0x200\nsize = "2MiB"\n'
    + vps("write 0x200", count=2)
    + failing_map("region_range_fault", rep=0)
)
TAKEN_AWAY = UNMAPPED + thread("host", "madvise dontneed 0x200 2")
AGAIN = REGION + vps("write 0x200", "read 0x201", count=2) + thread("vmm", "unmap 0x200", MAP)
PARTLY_FAILED = thread("vmm", MAP) + failing_map("map_user_memory", rep=1)
TOUCHED_WHILE_MAPPED = vps("yield", "write 0x200") + thread("vmm", MAP)


@pytest.mark.parametrize(
    ("scenario", "verdict", "still"),
    [
        pytest.param(NEW_REGION, "oops", None, id="D3: live before it is initialised"),
        pytest.param(FAILED_MAP, "use-after-free", None, id="D4: freed with its notifier"),
        pytest.param(FAILING_CALLBACK, "lost-unlock", None, id="D5: mutex kept"),
        pytest.param(REAPED, "oops", "warn", id="D6: a legal refusal is reported"),
        pytest.param(READ_ONLY_VMA, "guest-killed", "guest-killed", id="D7: write requested"),
        pytest.param(UNMAPPED, "use-after-free", None, id="D10: no reference"),
        pytest.param(WRITTEN_READ_ONLY, "livelock", None, id="D11: rights not compared"),
        pytest.param(PARTLY_GONE, "guest-killed", "guest-killed", id="D12: whole window"),
        pytest.param(LAZY, "invariant:guest-data", "invariant:guest-data", id="D14: not dirty"),
        pytest.param(
            HALF_MAPPED,
            "invariant:access-not-absent",
            "invariant:access-not-absent",
            id="D16: holes behind a failed map",
        ),
    ],
)
def test_departures_of_v6_are_found_and_in_fix1_what_is_left_of_them(scenario, verdict, still):
    found(scenario, "v6", verdict)
    if still is not None:
        found(scenario, "fix1", still)


@pytest.mark.parametrize(
    "scenario", [UNMAPPED, WRITTEN_READ_ONLY, FAILED_MAP], ids=["D10", "D11", "D4"]
)
def test_what_fix1_mends_is_silent_on_it(scenario):
    silent(scenario, "fix1")


@pytest.mark.parametrize(
    ("scenario", "verdict"),
    [
        pytest.param(FAILING_CALLBACK, "invariant:stale-mapping", id="A02: no veto"),
        pytest.param(TAKEN_AWAY, "invariant:stale-mapping", id="notifier removed before unmap"),
        pytest.param(AGAIN, "invariant:region-ownership", id="destroyed after its successor came"),
        pytest.param(PARTLY_FAILED, "invariant:atomic-failure", id="E03: part of a batch"),
        pytest.param(TOUCHED_WHILE_MAPPED, "guest-killed", id="D05: mapped before it is listed"),
    ],
)
def test_fix1_still_has(scenario, verdict):
    found(scenario, "fix1", verdict, 600)


@pytest.mark.parametrize(
    "scenario",
    [TAKEN_AWAY, AGAIN, TOUCHED_WHILE_MAPPED, UNMAPPED, NEW_REGION],
    ids=["taken away", "again", "touched while mapped", "unmapped", "new region"],
)
def test_a_driver_that_orders_destruction_well_is_clean(scenario):
    silent(scenario, Sound)


def test_a_notifier_that_cannot_be_inserted_makes_a_pinned_region_and_no_finding():
    scenario = (
        thread("vmm", MAP, "unmap 0x200")
        + vps("yield", "read 0x200")
        + '\n[[inject]]\nat = "notifier.insert"\nerrno = "ENOMEM"\nforce = true\n'
    )
    assert not search(scenario, "fix1+list-before-map", 150, strategy="random").findings
