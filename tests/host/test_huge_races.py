"""Huge pages under any schedule: no page lost, none freed under a mirror, no hidden state."""

from __future__ import annotations

import pytest
from host_toys import BASE, PAGE, VPN, Mirror, World

from mshv_async.host import (
    Mm,
    collapse_huge_page,
    kswapd_body,
    madvise,
    mmput,
    mprotect,
    munmap,
    oom_kill,
    oom_reap,
    oom_reaper_body,
    pin_user_pages_fast,
    reclaim_pages,
    reclaim_some,
    store,
    touch,
    unpin_user_pages,
)
from mshv_async.sim import Runtime, Tag, run_on_stage
from mshv_async.sim.footprints import FootprintChecker
from mshv_async.sim.races import RaceChecker
from mshv_async.sim.shared import instrumented
from mshv_async.sim.statekey import state_text
from mshv_async.sim.strategies import Pct, RandomWalk

HUGE = 512 * PAGE


class Busy:
    """A THP, a hugetlb page and small pages in a row, and everybody at them at once."""

    def __init__(self, strategy, *checkers, killer=True):
        world = self.world = World(
            1024, memory=2048, swap=1024, named=(VPN + 3, VPN + 520), backing="thp", thp="madvise",
            hugetlb_2m=1, watermark=200, kswapd=True, oom_killer=killer,
        )  # fmt: skip
        self.mm = world.mm
        self.mm.populate(BASE, 1)
        self.mm.add_vma(BASE + 2 * HUGE, HUGE, backing="hugetlb-2m")
        self.mm.add_vma(BASE + 3 * HUGE, 8 * PAGE)
        self.other = Mm(world.host, "other")
        self.other.add_vma(BASE, HUGE, backing="thp")
        self.other.populate(BASE, 512)
        self.low, self.high = Mirror(world, 0, 1024), Mirror(world, 1024, 520)
        self.rt = rt = Runtime(strategy, checkers=checkers)
        rt.roots = lambda: (world.host, world.mm)
        bodies = {
            "vp0": lambda: self.low.fault(0, 600),
            "vp1": lambda: self.high.fault(0 + 1024, 520),
            "vmm": self.vmm,
            "user": self.user,
            "khugepaged": self.collapse,
            "reclaimer": lambda: reclaim_pages(self.mm, BASE, 4),
            "pressure": self.pressure,
        }
        for name, body in bodies.items():
            thread = rt.spawn(name, body)
            if name in {"vmm", "user"}:
                self.mm.threads.append(thread)
        rt.spawn("kswapd", lambda: kswapd_body(world.host), daemon=True)
        rt.spawn("oom-reaper", lambda: oom_reaper_body(world.host), daemon=True)

    async def vmm(self):
        _, runs = await pin_user_pages_fast(self.mm, BASE + 3 * PAGE, 1)
        await madvise(self.mm, BASE + 2 * PAGE, 2 * PAGE, "dontneed")
        unpin_user_pages(self.world.host, runs)
        await mprotect(self.mm, BASE + HUGE + 8 * PAGE, PAGE, "r")
        await munmap(self.mm, BASE + HUGE, 16 * PAGE)

    async def user(self):
        await touch(self.mm, BASE + HUGE)
        await store(self.mm, BASE + HUGE, Tag("a"))
        await madvise(self.mm, BASE, 8 * PAGE, "free")
        await store(self.mm, BASE + 2 * HUGE, Tag("b"))
        await madvise(self.mm, BASE + 2 * HUGE, HUGE, "dontneed")
        await madvise(self.mm, BASE, HUGE, "nohugepage")

    async def collapse(self):
        await collapse_huge_page(self.mm, BASE)
        await madvise(self.mm, BASE, 2 * HUGE, "collapse")

    async def pressure(self):
        host = self.world.host
        await reclaim_some(host, 4)
        runs = await host.alloc_pages(host.nr_free - 150, "deposit")
        for lo, hi in runs or ():
            host.put_page(lo, hi - lo)

    async def leave(self):
        """Unmap all, so that what is left over is a leak."""
        for mm in (self.mm, self.other):
            await mmput(mm)


def play(build, executions, strategy):
    async def explore(stage):
        for execution in range(executions):
            strategy.begin(execution)
            busy = build(strategy)
            await stage.play(busy.rt)
            assert busy.rt.finding is None, (execution, busy.rt.finding)
            await check_clean(stage, busy)

    run_on_stage(explore)


async def check_clean(stage, busy):
    for mirror in (busy.low, busy.high):
        assert not mirror.stale()
    strategy = RandomWalk(1)
    strategy.begin(0)
    rt = Runtime(strategy)
    rt.spawn("exit", busy.leave)
    await stage.play(rt)
    assert rt.finding is None, rt.finding
    host = busy.world.host
    assert not host.folios.runs(0, host.pages), "a folio outlived its mappings"
    assert (host.nr_free, host.swap.nr_free) == (2047, 1024)
    assert not host.rmap
    assert not host.folio_locks
    assert host.reclaimers == ()
    assert sum(hi - lo for lo, hi, _ in host.free_huge) == 512


@pytest.mark.parametrize(
    "strategy",
    [RandomWalk(1), RandomWalk(2), Pct(3), Pct(4)],
    ids=["random1", "random2", "pct3", "pct4-depth5"],
)
def test_any_schedule_keeps_mirrors_right_and_loses_no_page(strategy):
    def build(strategy):
        busy = Busy(strategy)
        watch_frees(busy)
        return busy

    play(build, 60, strategy)


def watch_frees(busy):
    def freed(host, pfn_lo, pfn_hi):
        del host
        for mirror in (busy.low, busy.high):
            for lo, hi, word in mirror.table.runs(0, 1 << 52):
                assert word.pfn >= pfn_hi or word.pfn + hi - lo <= pfn_lo, "freed under the mirror"

    busy.rt.watch("frame.free", freed)


@pytest.fixture
def checked():
    token = instrumented.set(True)
    yield
    instrumented.reset(token)


def test_no_step_of_the_new_paths_changes_state_without_a_word(checked):
    checkers = []

    def build(strategy):
        checkers.append(FootprintChecker())
        return Busy(strategy, checkers[-1])

    play(build, 25, RandomWalk(1))
    assert not sorted({str(m) for checker in checkers for m in checker.missing.values()})
    assert sum(checker.checked_steps for checker in checkers) > 1000


def test_all_accesses_of_the_new_paths_are_ordered(checked):
    found = []

    def build(strategy):
        found.append(RaceChecker())
        return Busy(strategy, found[-1])

    play(build, 60, Pct(1))
    play(build, 40, RandomWalk(1))
    assert not sorted({str(race) for checker in found for race in checker.races.values()})


def test_no_state_of_the_new_paths_hides_from_the_state_key():
    class Keyed(RandomWalk):
        def pick(self, enabled, current):
            state_text(self.rt, [self.host, self.mm], (World, Mirror, Busy))
            return super().pick(enabled, current)

    async def explore(stage):
        strategy = Keyed(1)
        for execution in range(6):
            strategy.begin(execution)
            busy = Busy(strategy)
            strategy.rt, strategy.host, strategy.mm = busy.rt, busy.world.host, busy.mm
            await stage.play(busy.rt)

    run_on_stage(explore)


@pytest.mark.parametrize("seed", range(2))
def test_killing_and_reaping_lose_no_page_either(seed):
    def build(strategy):
        busy = Busy(strategy)

        async def reaper():
            await oom_kill(busy.mm)
            await oom_reap(busy.mm)

        busy.rt.spawn("second-reaper", reaper)
        watch_frees(busy)
        return busy

    play(build, 40, RandomWalk(seed))
