"""Each verdict and invariant on a driver with one fault, and silence without the fault.

The scenarios are neutral: nothing in them is there for a fault but the operations that it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import faulty_drivers as faulty
import pytest
from oracle_playing import (
    READ_ONLY_REGION,
    REGION,
    SWAP,
    failing_map,
    found,
    silent,
    thread,
    timed_verdict,
    vps,
)
from sound_drivers import Dirtying, Sound

from mshv_async.oracle.stale_mapping import StaleMapping
from mshv_async.sim import Place

DISCARD = (
    REGION
    + vps("write 0x200", "write 0x201", "read 0x200")
    + thread("host", "madvise dontneed 0x200 2", "store 0x201")
)
REFAULT = REGION + vps("write 0x200") + thread("host", "madvise dontneed 0x200 1", "store 0x200")
DISCARD_TWICE = DISCARD + thread("host", "madvise dontneed 0x200 1", "madvise dontneed 0x201 1")
RECLAIM = SWAP + REGION + vps("write 0x200", "read 0x200") + thread("reclaimer", "reclaim 0x200 2")
LAZY = (
    SWAP
    + REGION
    + vps("write 0x200", "read 0x200")
    + thread("host", "store 0x200", "madvise free 0x200 1", "yield", "madvise pageout 0x200 1")
)
REAP = REGION + vps("write 0x200", count=2) + thread("oom-reaper", "reap")
READ_ONLY = READ_ONLY_REGION + vps("read 0x200", "write 0x200", "read 0x201")
STORM = (
    "[bounds]\nprogress_steps = 300\n"
    + REGION
    + vps("write 0x200")
    + thread("host", "forever madvise dontneed 0x201 1")
)
UNMAP = REGION + vps("write 0x200", "read 0x201", count=2) + thread("vmm", "unmap 0x200")
UNMAP_DISCARD = UNMAP + thread("host", "madvise dontneed 0x200 2")
UNMAP_MAP = (
    REGION
    + vps("write 0x200", "read 0x201")
    + thread("vmm", "unmap 0x200", "map 0x200 8KiB")
    + thread("host", "madvise dontneed 0x200 1")
)
ENCLOSE = REGION + thread("vmm", "map 0x1ff 16KiB uaddr=0x200000000000", "unmap 0x1ff")
# Two hypercalls: the second fails after the first has mapped 509 pages.
MAP_MAY_FAIL = thread("vmm", "map 0x200 2MiB") + failing_map("map_user_memory", rep=0)
SLOW = (
    REGION + vps("write 0x200", "write 0x200") + thread("host", "repeat 4 madvise dontneed 0x200 1")
)
STRICT = f"panic_on_warn = true\n{DISCARD}"


@dataclass(frozen=True)
class Case:
    """A verdict, a driver that earns it in a scenario, and one that does not."""

    verdict: str
    driver: object
    scenario: str
    sound: object = Sound


CASES = {
    "oops: unlocked twice": Case("oops", faulty.UnlocksTwice, DISCARD),
    "oops: uninitialised": Case("oops", faulty.UsesUninitialised, DISCARD),
    "use-after-free": Case("use-after-free", faulty.FreedEarly, UNMAP),
    "lost-unlock": Case("lost-unlock", faulty.NeverUnlocks, DISCARD),
    "sleep-in-atomic": Case("sleep-in-atomic", faulty.LocksAlways, REAP),
    "deadlock: two locks": Case("deadlock", faulty.ReadBeginUnderMutex, DISCARD_TWICE),
    "deadlock: removal": Case("deadlock", faulty.NotifierGoesUnderMutex, UNMAP_DISCARD),
    "livelock": Case("livelock", faulty.HandlesNothing, STORM),
    "starvation": Case("starvation", faulty.WaitsForTheOldSequence, STORM),
    "guest-killed": Case("guest-killed", faulty.NeverRetries, DISCARD),
    "warn": Case("warn", faulty.WarnsAlways, STRICT),
    "stale-mapping: seq": Case("invariant:stale-mapping", faulty.SetSeqSkipped, DISCARD),
    "stale-mapping: call": Case("invariant:stale-mapping", faulty.HypercallSkipped, DISCARD),
    "stale-mapping: reclaim": Case("invariant:stale-mapping", faulty.HypercallSkipped, RECLAIM),
    "stale-mapping: part": Case("invariant:stale-mapping", faulty.FirstPageOnly, DISCARD),
    "stale-mapping: retry": Case("invariant:stale-mapping", faulty.RetryIgnored, DISCARD),
    "stale-mapping: window": Case(
        "invariant:stale-mapping", faulty.NotifierGoesFirst, UNMAP_DISCARD
    ),
    "coherence: unlocked": Case("invariant:coherence", faulty.UsedAfterUnlock, DISCARD),
    "coherence: old answer": Case("invariant:coherence", faulty.FirstAnswerKept, REFAULT),
    "coherence: pages": Case("invariant:coherence", faulty.PagesSwapped, DISCARD),
    "guest-data": Case("invariant:guest-data", Sound, LAZY, Dirtying),
    "page-array": Case("invariant:page-array", faulty.PagesKept, DISCARD),
    "notifier-sequence": Case("invariant:notifier-sequence", faulty.SetSeqUnlocked, DISCARD),
    "notifier-tree": Case("invariant:notifier-tree", faulty.NotifierTornOut, UNMAP_DISCARD),
    "region-ownership": Case("invariant:region-ownership", faulty.OverlapUnseen, ENCLOSE),
    "rights": Case("invariant:rights", faulty.MoreRights, READ_ONLY),
    "access-not-absent": Case("invariant:access-not-absent", faulty.UnmapsInstead, DISCARD),
    "atomic-failure: success": Case(
        "invariant:atomic-failure", faulty.FailureIsSuccess, MAP_MAY_FAIL
    ),
    "atomic-failure: rest": Case(
        "invariant:atomic-failure", faulty.FailureLeavesEntries, MAP_MAY_FAIL
    ),
    "teardown-clean": Case("invariant:teardown-clean", faulty.UnmapForgotten, UNMAP_MAP),
}


@pytest.mark.parametrize("name", CASES)
def test_the_fault_is_found(name):
    case = CASES[name]
    found(case.scenario, case.driver, case.verdict)


SOUND = {(case.scenario, case.sound): name for name, case in CASES.items()}


@pytest.mark.parametrize(("scenario", "driver"), SOUND, ids=SOUND.values())
def test_the_oracle_is_silent_without_the_fault(scenario, driver):
    silent(scenario, driver, 30 if scenario == STORM else 150)


def test_a_task_that_blocks_for_minutes_is_found_in_timed_mode():
    assert timed_verdict(SLOW, faulty.SleepsLong) == "hung-task"
    assert timed_verdict(SLOW, Sound) == "clean"


def test_where_a_callback_failed_is_state_but_not_at_which_step():
    """Else no two executions that met a failure would ever come to the same state."""
    failures = []
    for step in (7, 4711):
        here = Place("host", step, ("region_interval_invalidate",))
        watcher = StaleMapping.__new__(StaleMapping)
        watcher.world = SimpleNamespace(rt=SimpleNamespace(place=lambda here=here: here))
        watcher.refused = []
        watcher.on_callback(SimpleNamespace(ops=Sound.region_interval_invalidate), None, False)
        failures.append(watcher.failure)
    assert failures[0] == failures[1]
