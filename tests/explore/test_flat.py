"""A long search takes as much time and memory for its last executions as for its first."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from mshv_async.explore.campaign import explore_sync
from mshv_async.scenario import Scenario

LONG = bool(os.environ.get("MSHV_ASYNC_LONG"))
SCHEDULES = 200_000 if LONG else 1_500

SMALL = Scenario.parse(
    "summary = 'a page that a guest and a device use'\n"
    "[[region]]\ngfn = 0x200\nsize = '4KiB'\n"
    "[[vp]]\nprogram = ['read 0x200']\n"
    "[[thread]]\nkind = 'host'\nprogram = ['store 0x200']\n"
)


class Sample(NamedTuple):
    """What was used up to an execution."""

    schedules: int
    cpu_s: float
    resident: int


def resident() -> int:
    """Return the bytes of memory that the process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_time_and_memory_of_an_execution_do_not_grow(tmp_path: Path) -> None:
    samples: list[Sample] = []

    def sample(schedules: int, *_: int) -> None:
        samples.append(Sample(schedules, time.process_time(), resident()))

    campaign = explore_sync(
        SMALL, "fix1", schedules=SCHEDULES, keep_going=True, store=tmp_path, progress=sample
    )
    assert campaign.schedules == SCHEDULES
    tenth = len(samples) // 10
    first, last = samples[tenth : 2 * tenth], samples[-tenth:]
    grown = (last[-1].resident - first[-1].resident) / 2**20
    ratio = per_schedule(last) / per_schedule(first)
    print(f"{per_schedule(first) * 1e6:.0f} us, later {ratio:.3f} times that; {grown:+.1f} MiB")
    assert grown < (8 if LONG else 3)
    # The small one is at the mercy of the machine.
    assert ratio < (1.05 if LONG else 4)


def per_schedule(samples: list[Sample]) -> float:
    return (samples[-1].cpu_s - samples[0].cpu_s) / (samples[-1].schedules - samples[0].schedules)
