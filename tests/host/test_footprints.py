"""The host reports what it touches: without that, reduction and state keys would miss schedules."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
from host_toys import BASE, PAGE, VPN, Mirror, World

from mshv_async.host import (
    madvise,
    mmu_interval_notifier_insert,
    mmu_interval_notifier_remove,
    mprotect,
    munmap,
    oom_kill,
    oom_reap,
    pin_user_pages_fast,
    reclaim_some,
    store,
    touch,
    unpin_user_pages,
)
from mshv_async.sim import Runtime, Tag, point, run_on_stage
from mshv_async.sim.footprints import FootprintChecker
from mshv_async.sim.races import RaceChecker
from mshv_async.sim.shared import instrumented
from mshv_async.sim.statekey import state_text
from mshv_async.sim.strategies import Dpor, RandomWalk


def busy_world(strategy, *checkers):
    """Everything at once over four pages: the widest mix of steps that a few threads give."""
    world = World(4, memory=12, swap=4)
    world.mm.populate(BASE, 2)
    mirror, late = Mirror(world, 0, 2), Mirror(world, 2, 2, direct=False)

    async def vmm():
        await mmu_interval_notifier_insert(
            late.mni, world.mm, late.start, 2 * PAGE, late.invalidate
        )
        await late.fault(2, 2)
        _, runs = await pin_user_pages_fast(world.mm, BASE + 3 * PAGE, 1)
        await munmap(world.mm, BASE + 3 * PAGE, PAGE)
        unpin_user_pages(world.host, runs)
        await mmu_interval_notifier_remove(late.mni)

    async def user():
        await store(world.mm, BASE, Tag("a"))
        await madvise(world.mm, BASE, 2 * PAGE, "free")
        await touch(world.mm, BASE + 2 * PAGE)
        await mprotect(world.mm, BASE + PAGE, PAGE, "r")

    async def reaper():
        await oom_kill(world.mm)
        await oom_reap(world.mm)

    rt = Runtime(strategy, checkers=checkers)
    bodies = {
        "vp": lambda: mirror.fault(write=False),
        "vmm": vmm,
        "user": user,
        "reclaimer": lambda: reclaim_some(world.host, 2),
        "oom-reaper": reaper,
    }
    for name, body in bodies.items():
        thread = rt.spawn(name, body)
        if name in {"vmm", "user"}:
            world.mm.threads.append(thread)
    return world, rt


def play(build, executions, seed=1):
    async def explore(stage):
        strategy = RandomWalk(seed)
        for execution in range(executions):
            strategy.begin(execution)
            rt = build(strategy)
            await stage.play(rt)
            assert rt.finding is None, rt.finding

    run_on_stage(explore)


@pytest.fixture
def checked():
    token = instrumented.set(True)
    yield
    instrumented.reset(token)


def test_no_step_changes_state_without_a_word(checked):
    checkers = []

    def build(strategy):
        checkers.append(FootprintChecker())
        world, rt = busy_world(strategy, checkers[-1])
        rt.roots = lambda: (world.host, world.mm)
        return rt

    play(build, 30)
    missing = {str(m) for checker in checkers for m in checker.missing.values()}
    assert not sorted(missing)
    assert sum(checker.checked_steps for checker in checkers) > 1000


def test_all_accesses_are_ordered_by_a_lock_or_a_point(checked):
    found: list[RaceChecker] = []

    def build(strategy):
        found.append(RaceChecker())
        return busy_world(strategy, found[-1])[1]

    play(build, 60)
    races = {str(race) for checker in found for race in checker.races.values()}
    assert not sorted(races)


def test_no_state_of_the_host_hides_from_the_state_key():
    class Keyed(RandomWalk):
        def pick(self, enabled, current):
            state_text(self.rt, [self.world.host, self.world.mm], (World, Mirror))
            return super().pick(enabled, current)

    async def explore(stage):
        strategy = Keyed(1)
        for execution in range(10):
            strategy.begin(execution)
            strategy.world, strategy.rt = busy_world(strategy)
            await stage.play(strategy.rt)

    run_on_stage(explore)


async def fault_in(world, page, served):
    served[page] = await world.host.reserve_pages(1, "anon")
    if served[page]:
        await point("pte.set", world.mm.ptes, VPN + page, VPN + page + 1)
        world.mm.install(VPN + page, world.host.take_reserved(world.mm, VPN + page, 1), write=True)


def who_got_a_frame(strategy, free, threads):
    """Return, of all executions that a search plays, which threads were served."""
    outcomes = set()

    async def search(stage):
        execution = 0
        while strategy.begin(execution):
            token = instrumented.set(True)
            world = World(threads, memory=1 + free)
            rt = Runtime(strategy)
            served = [False] * threads
            for page in range(threads):
                rt.spawn(f"user{page}", partial(fault_in, world, page, served))
            instrumented.reset(token)
            await stage.play(rt)
            execution += 1
            if rt.cut is None:
                outcomes.add(tuple(served))

    run_on_stage(search)
    return outcomes


@pytest.mark.parametrize("free", [1, 2])
def test_who_comes_last_where_memory_ends_is_explored_for_each_thread(free):
    served = {outcome for outcome in product((False, True), repeat=3) if sum(outcome) == free}
    assert who_got_a_frame(Dpor(), free, 3) == served
