"""The bare protocol, without Linux and without a hypervisor: how fast the search itself is.

Two faulting threads and one invalidator, one mutex, a sequence of two levels (the address
space's and the region's), a retry bounded at three attempts: what tools for testing concurrency
are compared on. Run with ``pytest tests/benchmarks/test_protocol.py -s``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from mshv_async.explore.campaign import fewer_collections
from mshv_async.explore.catalogue import make_strategy
from mshv_async.sim import Mutex, Op, Runtime, Shared, do, run_on_stage
from mshv_async.sim.current import instrumented

if TYPE_CHECKING:
    from mshv_async.sim import Stage, Thread
    from mshv_async.sim.strategies import Strategy

pytestmark = pytest.mark.benchmark

PAGES = 3
ATTEMPTS = 3
INVALIDATIONS = 2
EXECUTIONS = 2_000
EXHAUST_MAX = 100_000
REPEATS = 3


class Space(Shared):
    """The address space: its sequence is odd while an invalidation is under way."""

    __slots__ = ("begin", "end", "present", "seq", "start", "walk")
    _const = ("begin", "end", "start", "walk")

    def __init__(self) -> None:
        super().__init__("mm")
        self.seq = 0
        self.present = (1,) * PAGES
        self.begin = Op("read_begin", self, write=False, guard=self._quiet)
        self.walk = Op("walk", self, write=False)
        self.start = Op("invalidate_start", self)
        self.end = Op("invalidate_end", self)

    def _quiet(self, thread: Thread) -> bool:
        del thread
        return not self.seq & 1


class Region(Shared):
    """The region: the sequence of its last invalidation, and what is mapped."""

    __slots__ = ("mapped", "maps", "mutex", "retry", "seq", "set_seq")
    _const = ("maps", "mutex", "retry", "set_seq")

    def __init__(self) -> None:
        super().__init__("region")
        self.seq = 0
        self.mapped = (0,) * PAGES
        self.mutex = Mutex("region.mutex", "region.mutex")
        self.retry = Op("read_retry", self, write=False)
        self.set_seq = Op("set_seq", self)
        self.maps = [Op("map", self, page, page + 1) for page in range(PAGES)]

    def put(self, page: int, value: int) -> None:
        """Map a page, or take it away."""
        mapped = list(self.mapped)
        mapped[page] = value
        self.mapped = tuple(mapped)


class Bare:
    """The protocol's functions, as the driver has them."""

    def __init__(self) -> None:
        self.mm = Space()
        self.region = Region()

    async def fault(self) -> int:
        """Find the pages, and map them unless they were taken back meanwhile."""
        mm, region = self.mm, self.region
        for _ in range(ATTEMPTS):
            await do(mm.begin)
            seq = mm.seq
            await do(mm.walk)
            pages = mm.present
            await region.mutex.lock()
            await do(region.retry)
            if region.seq > seq:
                await region.mutex.unlock()
                continue
            for page in range(PAGES):
                await do(region.maps[page])
                region.put(page, pages[page])
            await region.mutex.unlock()
            return 0
        return -16

    async def invalidate(self) -> None:
        """Take one page after the other back."""
        mm, region = self.mm, self.region
        for page in range(INVALIDATIONS):
            await do(mm.start)
            mm.seq += 1
            seq = mm.seq
            await region.mutex.lock()
            await do(region.set_seq)
            region.seq = seq
            await do(region.maps[page])
            region.put(page, 0)
            await region.mutex.unlock()
            await do(mm.end)
            mm.seq += 1

    def build(self, rt: Runtime) -> None:
        """Create the threads."""
        for name in ("vp0", "vp1"):
            rt.spawn(name, self.fault)
        rt.spawn("invalidator", self.invalidate)
        rt.roots = lambda: (self.mm, self.region)
        rt.opaque = (Bare,)


class Cost(NamedTuple):
    """Of a search: executions, processor time in seconds, steps of all."""

    executions: int
    seconds: float
    steps: int


def search(strategy: Strategy, n: int) -> Cost:
    """Play up to ``n`` executions."""

    async def act(stage: Stage) -> Cost:
        steps = 0
        start = time.process_time()
        for number in range(n):
            if not strategy.begin(number):
                return Cost(number, time.process_time() - start, steps)
            rt = Runtime(strategy)
            token = instrumented.set(rt.instruments)
            Bare().build(rt)
            instrumented.reset(token)
            await stage.play(rt)
            assert rt.finding is None
            steps += rt.steps
        return Cost(n, time.process_time() - start, steps)

    with fewer_collections():
        cost: Any = run_on_stage(act)
    assert isinstance(cost, Cost)
    return cost


@pytest.mark.parametrize("name", ["random", "pct"])
def test_executions_a_second(name: str) -> None:
    costs = [search(make_strategy(name, seed=n), EXECUTIONS) for n in range(REPEATS)]
    best = min(costs, key=lambda cost: cost.seconds)
    rate = best.executions / best.seconds
    print(
        f"\n{name}: {rate:,.0f} executions a second, {best.steps / best.executions:.1f} steps each"
    )
    assert rate > 2_000


@pytest.mark.parametrize("name", ["dpor", "stateful"])
def test_exhausted(name: str) -> None:
    cost = search(make_strategy(name, seed=1), EXHAUST_MAX)
    print(
        f"\n{name}: exhausted in {cost.seconds:.2f} s by {cost.executions:,} executions, "
        f"{cost.steps:,} steps"
    )
    assert cost.executions < EXHAUST_MAX
    assert cost.seconds < 30
