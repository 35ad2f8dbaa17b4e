"""A region costs what is touched of it, not its size: 16 GiB and 4 TiB side by side.

Run with ``pytest tests/benchmarks -s``. Both worlds touch the same guest pages. Memory is
measured twice: what Python allocates at most during one set-up and run (``tracemalloc``), and the
resident set of a process that does nothing else.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import pytest
from test_loop import stock_switch_us

from mshv_async.driver import resolve_driver
from mshv_async.explore.playing import Subject
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage
from mshv_async.sim.digest import digest
from mshv_async.sim.strategies import RandomWalk

pytestmark = pytest.mark.benchmark

SMALL, LARGE = "16GiB", "4TiB"
EXECUTIONS = 20
REPEATS = 5

SCENARIO = """
summary = "Two VPs and a discard in a region of {size}"

[host]
swap = "1MiB"

[[region]]
gfn = 0x100000
size = "{size}"

[[vp]]
program = ["write 0x100000", "read 0x2fffff", "write 0x4ffff0", "read 0x100000"]

[[vp]]
program = ["write 0x2fffff", "read 0x4ffff0", "write 0x3abcde"]

[[thread]]
kind = "host"
program = ["madvise dontneed 0x4ffff0 1", "madvise dontneed 0x2ffff0 512"]
"""

# Not ru_maxrss of getrusage(): over fork and exec it keeps what the parent had.
ALONE = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from test_sizes import play
play(sys.argv[2])
status = pathlib.Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""


class Played(NamedTuple):
    """Of one execution, its set-up included: processor time in microseconds, and steps."""

    us: float
    steps: float


def play(size: str, executions: int = EXECUTIONS) -> tuple[Played, list[str]]:
    """Set up and run the region some times; also return the digests."""
    subject = Subject(Scenario.parse(SCENARIO.format(size=size)), resolve_driver("fix1"))
    strategy = RandomWalk(1)

    async def act(stage: object) -> tuple[Played, list[str]]:
        steps, digests = 0, []
        start = time.process_time()
        for number in range(executions):
            strategy.begin(number)
            rt = await subject.play(stage, strategy)  # type: ignore[arg-type]
            assert rt.finding is None
            steps += rt.steps
            digests.append(digest(rt))
        us = (time.process_time() - start) / executions * 1e6
        return Played(us, steps / executions), digests

    return run_on_stage(act)  # type: ignore[no-any-return]


def peak_kib(size: str) -> float:
    """Return what one set-up and run holds at most, without what Python holds already."""
    play(size)  # what is made once, as derived classes are
    gc.collect()
    tracemalloc.start()
    play(size, executions=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1024


def resident_kib(size: str) -> int:
    """Return the largest resident set of a process that plays this size alone (Linux)."""
    here = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, "-c", ALONE, str(here), size],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        cwd=here.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


def test_a_region_of_4_tib_takes_the_time_of_one_of_16_gib() -> None:
    stock = stock_switch_us()
    small, large = [], []
    for _ in range(REPEATS):  # interleaved, so that a busy machine troubles both alike
        small.append(play(SMALL))
        large.append(play(LARGE))
    (small_us, steps), small_digests = min(small)
    (large_us, _), large_digests = min(large)
    print(
        f"\nset up and run, {steps:.0f} steps: {SMALL} {small_us:.0f} us, {LARGE} {large_us:.0f} us"
        f" ({large_us / small_us - 1:+.1%}); {small_us / steps / stock:.1f} and"
        f" {large_us / steps / stock:.1f} switches of stock asyncio a step ({stock:.2f} us)"
    )
    assert small_digests == large_digests, "the same steps, whatever the size"
    assert large_us < 1.5 * small_us


def test_a_region_of_4_tib_takes_the_memory_of_one_of_16_gib() -> None:
    small, large = peak_kib(SMALL), peak_kib(LARGE)
    small_rss, large_rss = resident_kib(SMALL), resident_kib(LARGE)
    print(
        f"\npeak of Python's memory: {SMALL} {small:.0f} KiB, {LARGE} {large:.0f} KiB"
        f" ({large / small - 1:+.1%})\nresident set of a process: {SMALL} {small_rss} KiB,"
        f" {LARGE} {large_rss} KiB ({large_rss / small_rss - 1:+.1%})"
    )
    assert large < 1.1 * small
    assert large_rss < 1.1 * small_rss
