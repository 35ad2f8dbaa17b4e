"""Short of memory: watermarks, direct reclaim, kswapd, the OOM killer and its reaper."""

from __future__ import annotations

from errno import EAGAIN, ENOMEM

import pytest
from host_toys import BASE, PAGE, VPN, Mirror, Script, World, brackets, labels

from mshv_async.host import (
    Mm,
    NotifierEvent,
    kswapd_body,
    madvise,
    mmput,
    oom_reap,
    oom_reaper_body,
    reclaim_pages,
    store,
    touch,
)
from mshv_async.host.oom import _reap_once
from mshv_async.sim import Runtime, Tag, current, run_on_stage
from mshv_async.sim.strategies import Fifo, RandomWalk

A = Tag("a")


def run(world, body, **options):
    rt = world.run({"vmm": body}, **options)
    return world.results.get("vmm"), rt


# -- watermarks ------------------------------------------------------------------------------


def test_allocation_below_min_reclaims_on_its_own_thread():
    world = World(32, memory=41, swap=64, watermark=8)
    world.mm.populate(BASE, 32)

    async def body():
        return await world.host.alloc_pages(4, "deposit")

    result, rt = run(world, body)
    assert result is not None
    assert world.host.nr_free == 8, "the watermark is kept"
    assert [args[1:] for args in world.seen("reclaim.direct")] == [("deposit",)]
    assert "pte.swap" in labels(rt, "vmm")


def test_atomic_allocation_neither_reclaims_nor_heeds_the_watermark():
    world = World(32, memory=41, swap=64, watermark=8)
    world.mm.populate(BASE, 32)
    result, _ = run(world, lambda: world.host.alloc_pages(8, "callback", "atomic"))
    assert result is not None
    assert world.host.nr_free == 0
    assert not world.seen("reclaim.direct")


def test_who_reclaims_takes_from_the_reserve_and_does_not_reclaim_again():
    """PF_MEMALLOC: a callback that allocates under reclaim must not begin another one."""
    world = World(8, memory=12, swap=64, watermark=4)
    world.mm.populate(BASE, 8)
    mirror = Mirror(world)
    got = []

    async def allocate(mni, range, cur_seq):
        got.append(await world.host.alloc_pages(2, "callback"))
        return True

    mirror.mni.ops = allocate
    run(world, lambda: reclaim_pages(world.mm, BASE, 1))
    assert len(got[0]) > 0
    assert not world.seen("reclaim.direct")
    assert world.host.reclaimers == ()


# -- kswapd ----------------------------------------------------------------------------------


def with_daemons(world, bodies, strategy=None, *, kswapd=True, reaper=False):
    rt = Runtime(strategy or Fifo())
    for name in ("reclaim.direct", "bracket.begin"):
        rt.watch(name, lambda *args, name=name: world.probes.append((name, args)))
    for name, body in bodies.items():
        thread = rt.spawn(name, lambda name=name, body=body: world._keep(name, body))
        world.mm.threads.append(thread)
    if kswapd:
        rt.spawn("kswapd", lambda: kswapd_body(world.host), daemon=True)
    if reaper:
        rt.spawn("oom-reaper", lambda: oom_reaper_body(world.host), daemon=True)
    return rt


def play(rt):
    run_on_stage(lambda stage: stage.play(rt))
    return rt


def test_kswapd_wakes_below_low_and_reclaims_up_to_high():
    world = World(24, memory=41, swap=64, watermark=8, kswapd=True)
    world.mm.populate(BASE, 24)

    async def body():
        await world.host.alloc_pages(6, "test")  # leaves 10 = low: not yet
        assert not world.host.kswapd_box.messages
        await world.host.alloc_pages(1, "test")
        for _ in range(20):
            await touch(world.mm, BASE + 23 * PAGE)
        return world.host.nr_free

    rt = play(with_daemons(world, {"vmm": body}, Script(("vmm", "user.read"), ("kswapd", "none"))))
    assert rt.finding is None
    assert world.host.nr_free >= 12
    assert not world.seen("reclaim.direct")
    assert "pte.swap" in labels(rt, "kswapd")


def test_kswapd_that_finds_nothing_sleeps_again():
    world = World(24, memory=41, watermark=8, kswapd=True)
    world.mm.populate(BASE, 24)
    rt = play(with_daemons(world, {"vmm": lambda: world.host.alloc_pages(8, "test")}))
    assert rt.finding is None
    assert labels(rt, "kswapd").count("reclaim.scan") <= 2


def test_without_kswapd_no_step_is_added():
    """The 4 KiB path must take the same steps as before."""
    world = World(4)
    _, rt = run(world, lambda: store(world.mm, BASE, A))
    assert labels(rt, "vmm") == [
        "thread.start", "user.write", "rwsem.read_lock", "page.fault", "alloc.anon", "pte.set",
        "rwsem.read_unlock", "user.write",
    ]  # fmt: skip


# -- the OOM killer --------------------------------------------------------------------------


def two_processes(strategy=None, *, big=20, reaper=True, users=True, **options):
    """The VMM with 4 pages, which allocates, and a process of ``big`` pages that only sleeps."""
    world = World(4, memory=32, watermark=2, oom_killer=True, **options)
    world.mm.populate(BASE, 4)
    other = Mm(world.host, "other")
    other.add_vma(BASE, big * PAGE)
    other.populate(BASE, big)

    async def allocate():
        return await world.host.alloc_pages(10, "deposit")

    rt = with_daemons(world, {"vmm": allocate}, strategy, kswapd=False, reaper=reaper)

    async def victim():
        while not current().fatal_pending:
            await touch(other, BASE)
        if users:
            await mmput(other)

    other.threads.append(rt.spawn("victim", victim, forever=True))
    return world, other, rt


@pytest.mark.parametrize("seed", range(4))
def test_killer_takes_the_largest_process_and_the_allocation_succeeds(seed):
    strategy = RandomWalk(seed)
    strategy.begin(0)
    world, other, rt = two_processes(strategy)
    play(rt)
    assert rt.finding is None, rt.finding
    assert world.results["vmm"] is not None
    assert (other.flags.oom_victim, world.mm.flags.oom_victim) == (True, False)
    assert len(world.seen("reclaim.direct")) == 1


def test_victim_that_does_not_exit_is_reaped():
    world, other, rt = two_processes(users=False)
    play(rt)
    assert rt.finding is None, rt.finding
    assert world.results["vmm"] is not None
    assert other.flags.oom_skip
    assert not other.ptes
    assert other.refs.count == 1
    assert other.vmas, "only the memory is taken; the address space goes with its last user"


def test_next_one_dies_when_the_first_gave_too_little():
    world = World(4, memory=24, watermark=2, oom_killer=True)
    world.mm.populate(BASE, 4)
    others = [Mm(world.host, name) for name in ("small", "large")]
    for mm, pages in zip(others, (7, 8), strict=True):
        mm.add_vma(BASE, pages * PAGE)
        mm.populate(BASE, pages)
    assert world.host.mms == (world.mm, *others)

    async def allocate():
        got = await world.host.alloc_pages(14, "deposit")
        return got, [mm.flags.oom_skip for mm in world.host.mms]

    rt = play(with_daemons(world, {"vmm": allocate}, kswapd=False, reaper=True))
    assert rt.finding is None, rt.finding
    got, skipped = world.results["vmm"]
    assert got is not None
    assert [mm.flags.oom_victim for mm in world.host.mms] == [False, True, True]
    assert skipped[2]


def test_allocating_thread_that_is_killed_itself_goes_on_with_what_there_is():
    world = World(20, memory=24, watermark=4, oom_killer=True)
    world.mm.populate(BASE, 18)

    async def body():
        some = await world.host.alloc_pages(2, "deposit")
        return some, await world.host.alloc_pages(20, "deposit")

    rt = play(with_daemons(world, {"vmm": body}, kswapd=False, reaper=True))
    assert rt.finding is None, rt.finding
    assert world.mm.flags.oom_victim
    some, many = world.results["vmm"]
    assert some is not None
    assert many is None


def test_nobody_is_killed_without_the_killer_or_for_a_huge_page():
    world = World(4, memory=16, watermark=2)
    world.mm.populate(BASE, 4)
    assert run(world, lambda: world.host.alloc_pages(20, "deposit"))[0] is None
    world = World(
        512, memory=600, named=(), backing="thp", thp="madvise", watermark=2, oom_killer=True
    )
    run(world, lambda: store(world.mm, BASE, A))
    assert not world.mm.flags.oom_victim
    assert world.mm.ptes.get(VPN).order == 0


def test_nobody_left_to_kill_is_enomem():
    world = World(4, memory=16, watermark=2, oom_killer=True)

    async def body():
        await mmput(world.mm)
        return await world.host.alloc_pages(20, "deposit")

    assert run(world, body)[0] is None


# -- the reaper ------------------------------------------------------------------------------


def test_reaper_goes_vma_by_vma_skips_what_it_must_and_what_refuses():
    world = World(2, hugetlb_2m=1, swap=8)
    world.mm.populate(BASE, 2)
    world.mm.add_vma(BASE + 2 * PAGE, 2 * PAGE)
    world.mm.populate(BASE + 2 * PAGE, 2)
    at = BASE + 512 * PAGE
    world.mm.add_vma(at, 512 * PAGE, backing="hugetlb-2m")
    world.mm.populate(at, 512)
    world.mm.add_vma(at + 512 * PAGE, 4 * PAGE, backing="device")
    refusing, willing = Mirror(world, 0, 2), Mirror(world, 2, 2)
    refusing.refuse = True
    assert run(world, lambda: oom_reap(world.mm))[0] is False
    assert len(refusing.events) == 10
    assert {e.blockable for e in refusing.events} == {False}
    assert brackets(world)[:2] == [("UNMAP", 0, 2), ("UNMAP", 2, 2)]
    assert len(willing.events) == 10
    assert world.host.nr_free == 253
    assert world.mm.ptes.get(VPN + 512) is not None
    assert {args[1] for args in world.seen("bracket.start")} == {0, -EAGAIN}


def test_reaper_takes_a_huge_page_whole():
    world = World(512, memory=2048, named=(), backing="thp", thp="madvise")
    world.mm.populate(BASE, 512)
    mirror = Mirror(world)

    async def body():
        assert await oom_reap(world.mm)
        return await mirror.fault(), await store(world.mm, BASE, A)

    result, rt = run(world, body)
    assert "pmd.split" not in labels(rt, "vmm")
    assert world.host.nr_free == 2047
    assert all(ret < 0 for ret in result), "faults in an unstable mm fail"


def test_failing_huge_fault_of_an_unstable_mm_leaks_nothing():

    async def reap():
        return await _reap_once(world.mm, NotifierEvent.CLEAR)

    world = World(512, memory=2048, named=(), backing="thp", thp="madvise")
    world.run(
        {"vmm": lambda: store(world.mm, BASE, A), "reaper": reap},
        Script(("vmm", "pmd.set"), ("reaper", "none"), ("vmm", "none")),
    )
    assert world.results["vmm"] < 0
    assert world.host.nr_free == 2047


def test_direct_reclaim_of_a_lazily_freed_page_needs_no_swap():
    world = World(8, memory=12, watermark=3)
    world.mm.populate(BASE, 8)

    async def body():
        await madvise(world.mm, BASE, 8 * PAGE, "free")
        return await world.host.alloc_pages(4, "deposit")

    assert run(world, body)[0] is not None
    assert -ENOMEM not in world.results.values()
