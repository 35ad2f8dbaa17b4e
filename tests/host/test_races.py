"""The race catalogue of spec.md 3.5: each row is reached, and the documented pattern survives."""

from __future__ import annotations

import pytest
from host_toys import BASE, PAGE, VPN, Mirror, Script, World

from mshv_async.host import (
    HmmPfns,
    HmmRange,
    NotifierEvent,
    hmm_range_fault,
    madvise,
    mmap_read_lock,
    mmap_read_unlock,
    mmu_interval_read_begin,
    munmap,
    reclaim_pages,
)
from mshv_async.host.oom import _reap_once
from mshv_async.sim import Runtime, run_on_stage
from mshv_async.sim.strategies import Dfs, RandomWalk


def one_page(**options):
    world = World(1, **options)
    world.mm.populate(BASE, 1)
    return world, Mirror(world)


def play(world, mirror, *entries, host=None):
    return world.run(
        {
            "vp": mirror.fault,
            "host": host or (lambda: madvise(world.mm, BASE, PAGE, "dontneed")),
        },
        Script(*entries),
    )


def labels(rt, name):
    tid = next(t.tid for t in rt.all_threads if t.name == name)
    return [op.label for thread, op in rt.trace if thread == tid]


def test_reader_that_begins_inside_a_bracket_sleeps_until_its_end():
    world, mirror = one_page()
    rt = play(world, mirror, ("host", "tlb.flush"), ("vp", "none"))
    assert "wait.sleep" in labels(rt, "vp")
    assert mirror.retries == 0
    assert not mirror.stale()


def test_invalidation_between_begin_and_walk_gives_ebusy_at_once():
    world, mirror = one_page()
    rt = play(world, mirror, ("vp", "rwsem.read_lock"), ("host", "pte.zap"))
    assert mirror.retries == 1
    assert labels(rt, "vp").count("page.fault") == 1
    assert not mirror.stale()


def test_invalidation_in_the_middle_of_the_walk_is_seen_by_the_rewalk():
    world = World(2)
    world.mm.populate(BASE, 1)
    mirror = Mirror(world)
    play(world, mirror, ("vp", "page.fault"), ("host", "pte.zap"))
    assert mirror.retries == 1
    assert not mirror.stale()


def test_invalidation_after_the_walk_is_seen_under_the_user_lock():
    world, mirror = one_page()
    rt = play(world, mirror, ("vp", "mutex.lock"), ("host", "rwsem.read_unlock"))
    assert labels(rt, "vp").count("notifier.read_retry") == 2
    assert mirror.retries == 1
    assert not mirror.stale()


def test_callback_that_waits_for_the_user_lock_clears_what_was_programmed():
    world, mirror = one_page()
    play(world, mirror, ("vp", "mirror.program"), ("host", "none"))
    assert mirror.retries == 0
    assert not mirror.table


def test_reader_between_start_and_the_entry_change_sleeps():
    world, mirror = one_page()
    rt = play(world, mirror, ("host", "pte.zap"), ("vp", "none"))
    assert "wait.sleep" in labels(rt, "vp")
    assert not mirror.stale()


def test_reader_of_a_neighbouring_subscription_is_not_disturbed():
    world = World(2)
    world.mm.populate(BASE, 2)
    neighbour, mirror = Mirror(world, 0, 1), Mirror(world, 1, 1)
    rt = world.run(
        {
            "vp": lambda: mirror.fault(1),
            "host": lambda: madvise(world.mm, BASE, PAGE, "dontneed"),
        },
        Script(("host", "tlb.flush"), ("vp", "none")),
    )
    assert "wait.sleep" not in labels(rt, "vp")
    assert mirror.retries == 0
    assert [e.start for e in neighbour.events] == [BASE]


def test_non_blockable_bracket_against_a_held_user_lock_frees_nothing():
    world, mirror = one_page()
    rt = play(
        world,
        mirror,
        ("vp", "mirror.program"),
        ("host", "none"),
        host=lambda: _reap_once(world.mm, NotifierEvent.UNMAP),
    )
    assert world.results["host"] is False
    assert not world.seen("frame.free")
    assert world.mm.ptes.get(VPN) is not None
    assert "pte.zap" not in labels(rt, "host")
    assert next(args[1] for args in world.seen("bracket.start")) < 0
    assert not mirror.stale()


def check_no_free_of_mirrored_frames(world, mirror, rt):
    """A frame must not be freed while the mirror still maps it."""

    def freed(host, pfn_lo, pfn_hi):
        del host
        for lo, hi, word in mirror.table.runs(0, 1 << 52):
            assert word.pfn >= pfn_hi or word.pfn + hi - lo <= pfn_lo, "freed under the mirror"

    rt.watch("frame.free", freed)


def race(strategy, mirror_type=Mirror):
    world = World(2, swap=8)
    world.mm.populate(BASE, 1)
    mirror = mirror_type(world)
    rt = Runtime(strategy)
    check_no_free_of_mirrored_frames(world, mirror, rt)
    bodies = {
        "vp": mirror.fault,
        "madvise": lambda: madvise(world.mm, BASE, PAGE, "dontneed"),
        "reclaimer": lambda: reclaim_pages(world.mm, BASE, 2),
        "munmap": lambda: munmap(world.mm, BASE + PAGE, PAGE),
    }
    for name, body in bodies.items():
        rt.spawn(name, body)
    return world, mirror, rt


@pytest.mark.parametrize("seed", range(3))
def test_random_schedules_never_free_a_page_under_the_mirror(seed):
    async def explore(stage):
        strategy = RandomWalk(seed)
        for execution in range(120):
            strategy.begin(execution)
            _, mirror, rt = race(strategy)
            await stage.play(rt)
            assert rt.finding is None, rt.finding
            assert not mirror.stale(), execution

    run_on_stage(explore)


class Careless(Mirror):
    """Forgets read_retry, by asking for the sequence only after the walk."""

    async def fault(self, page=0, count=None, *, write=True):
        request = HmmRange(self.mni, BASE, BASE + PAGE, HmmPfns(1), (1 << 63) | (1 << 62))
        request.notifier_seq = await mmu_interval_read_begin(self.mni)
        await mmap_read_lock(self.world.mm)
        ret = await hmm_range_fault(request)
        await mmap_read_unlock(self.world.mm)
        await self.mutex.lock()
        if not ret:
            self.table.set(VPN, VPN + 1, request.hmm_pfns.get(0))
        await self.mutex.unlock()
        return ret


def test_search_finds_the_mirror_that_does_not_retry():
    """The planted fault: without read_retry some schedule leaves a stale entry."""

    async def explore(stage):
        strategy = Dfs(preemptions=2)
        execution = 0
        while strategy.begin(execution):
            world = World(1)
            world.mm.populate(BASE, 1)
            mirror = Careless(world)
            rt = Runtime(strategy)
            rt.spawn("vp", mirror.fault)
            rt.spawn("host", lambda world=world: madvise(world.mm, BASE, PAGE, "dontneed"))
            await stage.play(rt)
            if mirror.stale():
                return True
            execution += 1
        return False

    assert run_on_stage(explore)
