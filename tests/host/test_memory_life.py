"""Pages through faults, system calls, swap, pins and the OOM reaper (spec.md 1)."""

from __future__ import annotations

from errno import EAGAIN, EFAULT, EINTR, EINVAL, ENOMEM

import pytest
from host_toys import BASE, PAGE, VPN, Mirror, Script, World

from mshv_async.host import (
    PIN_BIAS,
    PteState,
    find_vma,
    madvise,
    mmap_fixed,
    mmget_not_zero,
    mmput,
    mprotect,
    munmap,
    oom_kill,
    oom_reap,
    pin_user_pages_fast,
    reclaim_pages,
    reclaim_some,
    store,
    touch,
    unpin_user_pages,
    vma_lookup,
)
from mshv_async.sim import Injection, Runtime, Tag, run_on_stage
from mshv_async.sim.strategies import RandomWalk

A, B = Tag("a"), Tag("b")


def run(world, body, **options):
    rt = world.run({"vmm": body}, **options)
    return world.results.get("vmm"), rt


def events(world):
    return [args[0].event.name for args in world.seen("bracket.begin")]


# -- faults ----------------------------------------------------------------------------------


def test_read_fault_maps_the_zero_page_and_a_write_replaces_it_with_an_event():
    world = World(1)
    mirror = Mirror(world)

    async def body():
        assert await touch(world.mm, BASE) == 0
        assert world.mm.ptes.get(VPN).state is PteState.ZERO
        assert await store(world.mm, BASE, A) == 0
        return await touch(world.mm, BASE)

    assert run(world, body)[0] == A
    assert events(world) == ["CLEAR"]
    assert [(e.start, e.end) for e in mirror.events] == [(BASE, BASE + PAGE)]


def test_first_write_and_upgrades_raise_no_event():
    world = World(2, swap=8)
    Mirror(world)

    async def body():
        await store(world.mm, BASE, A)
        await reclaim_pages(world.mm, BASE, 1)
        del world.probes[:]
        assert await touch(world.mm, BASE) == A
        assert not world.mm.ptes.get(VPN).write
        assert await store(world.mm, BASE, B) == 0

    run(world, body)
    assert events(world) == []


def test_two_faults_on_one_page_install_one_frame():
    """The loser of the race must give its frame back, or host memory leaks."""
    world = World(1)
    bodies = {n: (lambda n=n: store(world.mm, BASE, Tag(n))) for n in ("a", "b")}
    rt = world.run(bodies, Script(("a", "pte.set"), ("b", "none"), ("a", "none")))
    assert world.host.nr_free == world.host.free.total(0, 256) == 254
    assert [op.label for _, op in rt.trace].count("page.free") == 1


def test_access_without_a_vma_or_right_is_efault():
    world = World(1)

    async def body():
        await mprotect(world.mm, BASE, PAGE, "r")
        return [
            await touch(world.mm, BASE + PAGE),
            await store(world.mm, BASE, A),
            await touch(world.mm, BASE),
        ]

    assert run(world, body)[0] == [-EFAULT, -EFAULT, 0]


def test_memory_that_is_gone_is_enomem():
    world = World(8, memory=4)

    async def body():
        return [await store(world.mm, BASE + i * PAGE, A) for i in range(4)]

    assert run(world, body)[0] == [0, 0, 0, -ENOMEM]


# -- frames ----------------------------------------------------------------------------------


def test_a_page_gets_another_frame_than_it_had_and_later_that_one_again_with_no_content():
    """Were it the same at once, who uses what he knew of the page before would not be found out."""
    world = World(1)

    async def body():
        pfns = []
        for tag in (A, B, 0):
            await store(world.mm, BASE, tag)
            pfns.append(world.mm.ptes.get(VPN).pfn)
            if tag:
                await madvise(world.mm, BASE, PAGE, "dontneed")
        assert world.host.content(pfns[-1]) == 0
        return pfns, await touch(world.mm, BASE)

    (first, second, third), content = run(world, body)[0]
    assert first != second == third
    assert content == 0


def test_a_page_has_the_same_frame_whoever_faults_it_in():
    """Else two orders of the same faults are different states, and proofs take much longer."""

    def frame(first, second):
        world = World(1)
        bodies = {name: (lambda: store(world.mm, BASE, A)) for name in ("a", "b")}
        world.run(bodies, Script((first, "none"), (second, "none")))
        return world.mm.ptes.get(VPN).pfn

    assert frame("a", "b") == frame("b", "a")


def test_a_page_whose_frame_is_still_held_gets_another_one():
    world = World(1)

    async def body():
        await store(world.mm, BASE, A)
        pfn = world.mm.ptes.get(VPN).pfn
        world.host.get_page(pfn)
        await madvise(world.mm, BASE, PAGE, "dontneed")
        await store(world.mm, BASE, B)
        second = world.mm.ptes.get(VPN).pfn
        assert second != pfn
        world.host.get_page(second)
        await madvise(world.mm, BASE, PAGE, "dontneed")
        await store(world.mm, BASE, A)
        assert world.mm.ptes.get(VPN).pfn not in {pfn, second}
        return world.host.content(pfn), world.host.content(second)

    assert run(world, body)[0] == (A, B)


def test_memory_that_set_up_took_is_not_counted_as_there():
    """An allocation that believed so got fewer frames than it asked for, and lost what was read."""
    world = World(2048, memory=2200, backing="thp", thp="always")
    world.mm.populate(BASE, 2048)

    async def body():
        got = await world.host.alloc_pages(300, "test")
        return got, world.host.nr_free

    (got, left), _ = run(world, body)
    assert got is None
    assert left <= 2199 - 2048


def test_putting_a_page_too_often_is_oops():
    world = World(1)

    async def body():
        [(lo, _)] = await world.host.alloc_pages(1, "test")
        world.host.put_page(lo)
        world.host.put_page(lo)

    assert run(world, body, fine=False)[1].finding.verdict == "oops"


def test_injected_allocation_failure_is_none():
    world = World(1)
    failure = Injection("alloc.deposit", errno="ENOMEM", force=True)
    result, _ = run(world, lambda: world.host.alloc_pages(4, "deposit"), injections=(failure,))
    assert result is None


# -- system calls ----------------------------------------------------------------------------


def test_dontneed_raises_its_event_under_mmap_lock_and_frees_before_its_end():
    world = World(2)
    world.mm.populate(BASE, 2)
    held = []
    mirror = Mirror(world)
    callback = mirror.mni.ops

    async def look(mni, range, cur_seq):
        held.append([lock.cls for lock in world.mm.threads[0].held])
        return await callback(mni, range, cur_seq)

    mirror.mni.ops = look
    run(world, lambda: madvise(world.mm, BASE, 2 * PAGE, "dontneed"))
    order = [name for name, _ in world.probes]
    assert order.index("callback.return") < order.index("pte.discard")
    assert order.index("pte.discard") < order.index("frame.free") < order.index("bracket.end")
    assert held == [["mmap_lock"]]
    assert world.host.nr_free == 255


def test_dontneed_over_a_gap_does_the_rest():
    world = World(2)
    world.mm.populate(BASE, 1)
    assert run(world, lambda: madvise(world.mm, BASE - PAGE, 3 * PAGE, "dontneed"))[0] == -ENOMEM
    assert not world.mm.ptes


def test_unknown_advice_is_einval():
    world = World(1)
    assert run(world, lambda: madvise(world.mm, BASE, PAGE, "mergeable"))[0] == -EINVAL


def test_munmap_splits_vmas_and_zaps_under_the_read_lock():
    world = World(4)
    world.mm.populate(BASE, 4)
    Mirror(world)
    _, rt = run(world, lambda: munmap(world.mm, BASE + PAGE, 2 * PAGE))
    trace = [op.label for _, op in rt.trace]
    assert trace.index("vma.detach") < trace.index("rwsem.downgrade") < trace.index("pte.zap")
    assert events(world) == ["UNMAP"]
    first, last = vma_lookup(world.mm, BASE), vma_lookup(world.mm, BASE + 3 * PAGE)
    assert (first.start, first.end) == (BASE, BASE + PAGE)
    assert (last.start, last.end, last.pgoff) == (BASE + 3 * PAGE, BASE + 4 * PAGE, 3)
    assert vma_lookup(world.mm, BASE + PAGE) is None
    assert find_vma(world.mm, BASE + PAGE) is last


def test_munmap_of_nothing_is_no_event():
    world = World(1)
    assert run(world, lambda: munmap(world.mm, BASE + 8 * PAGE, PAGE))[0] == 0
    assert events(world) == []


def test_killed_process_leaves_the_wait_for_mmap_lock():
    world = World(1)

    async def holder():
        await world.mm.mmap_lock.down_read()
        await oom_kill(world.mm)
        while "munmap" not in world.results:
            await touch(world.mm, BASE)
        await world.mm.mmap_lock.up_read()

    world.mm.populate(BASE, 1)
    world.run(
        {"holder": holder, "munmap": lambda: munmap(world.mm, BASE, PAGE)},
        Script(("holder", "oom.kill"), ("munmap", "rwsem.write_lock"), ("holder", "user.read"),
               ("munmap", "none")),
    )  # fmt: skip
    assert world.results["munmap"] == -EINTR


def test_mmap_fixed_unmaps_what_was_there():
    world = World(2)
    world.mm.populate(BASE, 2)
    Mirror(world)

    async def body():
        await mmap_fixed(world.mm, BASE, PAGE, "r")
        return await touch(world.mm, BASE)

    assert run(world, body)[0] == 0
    assert vma_lookup(world.mm, BASE).prot == "r"
    assert events(world) == ["UNMAP"]


def test_mprotect_event_begins_at_the_first_populated_page_table():
    world = World(2048, named=())
    world.mm.populate(BASE + 700 * PAGE, 1)
    Mirror(world)
    run(world, lambda: mprotect(world.mm, BASE, 2048 * PAGE, "r"))
    [(bracket,)] = world.seen("bracket.begin")
    assert bracket.event.name == "PROTECTION_VMA"
    assert (bracket.start, bracket.end) == (BASE + 512 * PAGE, BASE + 2048 * PAGE)
    assert not world.mm.ptes.get(VPN + 700).write


def test_mprotect_of_untouched_memory_is_no_event():
    world = World(2)
    run(world, lambda: mprotect(world.mm, BASE, 2 * PAGE, "r"))
    assert events(world) == []


def test_mprotect_none_and_back_keeps_the_page():
    world = World(1)

    async def body():
        await store(world.mm, BASE, A)
        await mprotect(world.mm, BASE, PAGE, "none")
        assert await touch(world.mm, BASE) == -EFAULT
        await mprotect(world.mm, BASE, PAGE, "rw")
        return await touch(world.mm, BASE)

    assert run(world, body)[0] == A


def test_madv_free_page_is_dropped_without_swap_unless_written_again():
    world = World(2)

    async def body():
        await store(world.mm, BASE, A)
        await store(world.mm, BASE + PAGE, B)
        await madvise(world.mm, BASE, 2 * PAGE, "free")
        await store(world.mm, BASE + PAGE, A)
        taken = await reclaim_pages(world.mm, BASE, 2)
        return taken, await touch(world.mm, BASE), await touch(world.mm, BASE + PAGE)

    assert run(world, body)[0] == (1, 0, A)


# -- reclaim ---------------------------------------------------------------------------------


def test_page_survives_a_round_trip_through_swap():
    world = World(3, swap=4)
    mirror = Mirror(world)

    async def body():
        for i, tag in enumerate("xyz"):
            await store(world.mm, BASE + i * PAGE, Tag(tag))
        assert await mirror.fault() == 0
        assert await reclaim_pages(world.mm, BASE, 3) == 3
        assert not mirror.table
        assert world.mm.ptes.get(VPN).state is PteState.SWAP
        assert world.host.nr_free == 255
        return [await touch(world.mm, BASE + i * PAGE) for i in range(3)]

    assert run(world, body)[0] == ["x", "y", "z"]
    assert world.host.swap.nr_free == 4


def test_reclaim_holds_folio_and_rmap_locks_and_not_mmap_lock():
    world = World(1, swap=1)
    world.mm.populate(BASE, 1)
    held = []
    mirror = Mirror(world)

    async def look(mni, range, cur_seq):
        held.extend(lock.cls for lock in world.mm.threads[0].held)
        return True

    mirror.mni.ops = look
    run(world, lambda: reclaim_pages(world.mm, BASE, 1))
    assert held == ["folio_lock", "rmap_lock"]


def test_reclaim_without_swap_or_with_full_swap_takes_nothing():
    for swap in (0, 1):
        world = World(2, swap=swap)
        world.mm.populate(BASE, 2)
        assert run(world, lambda world=world: reclaim_pages(world.mm, BASE, 2))[0] == swap


def test_grouped_reclaim_uses_swap_slots_in_pieces():
    world = World(8, swap=16, named=())

    async def body():
        for i in range(8):
            await store(world.mm, BASE + i * PAGE, Tag(f"t{i}"))
        await reclaim_pages(world.mm, BASE, 4)
        await touch(world.mm, BASE + PAGE)
        assert await reclaim_pages(world.mm, BASE, 8) == 5
        return [await touch(world.mm, BASE + i * PAGE) for i in range(8)]

    assert run(world, body)[0] == [f"t{i}" for i in range(8)]
    assert world.host.swap.nr_free == 16


def test_two_reclaimers_of_one_page_take_it_once():
    async def explore(stage):
        strategy = RandomWalk(1)
        for execution in range(60):
            strategy.begin(execution)
            world = World(1, swap=4)
            world.mm.populate(BASE, 1)
            rt = Runtime(strategy)
            taken = []

            async def body(world=world, taken=taken):
                taken.append(await reclaim_pages(world.mm, BASE, 1))

            for name in ("kswapd", "direct", "pageout"):
                rt.spawn(name, body)
            await stage.play(rt)
            assert rt.finding is None, rt.finding
            assert sum(taken) == 1
            assert world.host.swap.nr_free == 3
            assert not world.host.folio_locks

    run_on_stage(explore)


def test_grouped_reclaim_leaves_only_the_pinned_page():
    world = World(8, swap=16, named=())
    world.mm.populate(BASE, 8)

    async def body():
        await pin_user_pages_fast(world.mm, BASE + 3 * PAGE, 1)
        return await reclaim_pages(world.mm, BASE, 8)

    assert run(world, body)[0] == 7


def test_clock_hand_goes_round():
    world = World(4, swap=8)
    world.mm.populate(BASE, 4)

    async def body():
        for _ in range(3):
            assert await reclaim_some(world.host, 1) == 1
        return [world.mm.ptes.get(VPN + i).state is PteState.SWAP for i in range(4)]

    assert run(world, body)[0] == [True, True, True, False]


def test_low_memory_makes_the_allocating_thread_reclaim_and_meet_its_own_lock():
    """F1: an allocation under the user lock that reclaims the mirror's page waits for itself."""
    world = World(3, memory=4, swap=8)
    world.mm.populate(BASE, 3)
    mirror = Mirror(world)

    async def body():
        await mirror.mutex.lock()
        await world.host.alloc_pages(1, "deposit")

    rt = run(world, body, fine=False)[1]
    assert rt.finding.verdict == "deadlock"


def test_direct_reclaim_without_the_lock_finds_memory():
    world = World(3, memory=4, swap=8)
    world.mm.populate(BASE, 3)
    Mirror(world)
    assert run(world, lambda: world.host.alloc_pages(2, "deposit"))[0] is not None


# -- pins ------------------------------------------------------------------------------------


def test_pin_faults_in_and_blocks_reclaim_but_not_munmap():
    world = World(2, swap=4)

    async def body():
        got, runs = await pin_user_pages_fast(world.mm, BASE, 2)
        assert got == 2
        pfn = runs[0][0]
        await store(world.mm, BASE, A)
        assert world.host.state(pfn).refs == PIN_BIAS + 1
        assert await reclaim_pages(world.mm, BASE, 2) == 0
        await munmap(world.mm, BASE, 2 * PAGE)
        assert world.host.content(pfn) == A, "the page survives its unmapping"
        assert not world.seen("frame.free")
        unpin_user_pages(world.host, runs)
        return world.host.nr_free

    assert run(world, body)[0] == 255


def test_pin_that_comes_between_event_and_unmapping_keeps_the_page():
    world = World(1, swap=4)
    world.mm.populate(BASE, 1)
    Mirror(world)
    world.run(
        {
            "reclaimer": lambda: reclaim_pages(world.mm, BASE, 1),
            "vmm": lambda: pin_user_pages_fast(world.mm, BASE, 1),
        },
        Script(("reclaimer", "pte.swap"), ("vmm", "none")),
    )
    assert world.results["reclaimer"] == 0
    assert events(world) == ["CLEAR"]
    assert world.mm.ptes.get(VPN).present
    assert world.host.swap.nr_free == 4


def test_short_pin_and_failed_pin():
    world = World(2)

    async def body():
        short = await pin_user_pages_fast(world.mm, BASE, 4)
        return short[0], await pin_user_pages_fast(world.mm, BASE + 2 * PAGE, 1)

    assert run(world, body)[0] == (2, (-EFAULT, []))


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(Injection("pin", status="SHORT", force=True), 2),
     (Injection("pin", errno="ENOMEM", force=True), -ENOMEM)],
)  # fmt: skip
def test_injected_pin_failure(failure, expected):
    world = World(4)
    result, _ = run(world, lambda: pin_user_pages_fast(world.mm, BASE, 4), injections=(failure,))
    assert result[0] == expected


def test_unpinning_twice_is_oops():
    world = World(1)

    async def body():
        _, runs = await pin_user_pages_fast(world.mm, BASE, 1)
        unpin_user_pages(world.host, runs)
        unpin_user_pages(world.host, runs)

    assert run(world, body, fine=False)[1].finding.verdict == "oops"


# -- users, OOM ------------------------------------------------------------------------------


def test_last_user_dismantles_and_none_can_come_back():
    world = World(2)
    world.mm.populate(BASE, 2)

    async def body():
        assert await mmget_not_zero(world.mm)
        await mmput(world.mm)
        assert world.mm.vmas
        await mmput(world.mm)
        assert not world.mm.vmas
        return await mmget_not_zero(world.mm)

    assert run(world, body)[0] is False
    assert world.host.nr_free == 255
    assert world.mm.refs.count == 0


def test_reaper_takes_the_victims_memory_without_blocking_and_skips_hugetlb():
    world = World(2)
    world.mm.populate(BASE, 2)
    world.mm.add_vma(BASE + 4 * PAGE, PAGE, flags=("HUGETLB",))
    mirror = Mirror(world)

    async def body():
        await oom_kill(world.mm)
        assert world.mm.threads[0].fatal_pending
        return await oom_reap(world.mm)

    result, rt = run(world, body)
    assert result is True
    assert rt.now_ns >= 2_000_000_000
    assert [e.blockable for e in mirror.events] == [False]
    assert world.host.nr_free == 255
    assert world.mm.flags.oom_skip


def test_reaper_tries_ten_times_and_then_gives_up():
    world = World(1)
    world.mm.populate(BASE, 1)
    mirror = Mirror(world)
    mirror.refuse = True
    result, rt = run(world, lambda: oom_reap(world.mm))
    assert result is False
    assert len(mirror.events) == 10
    assert {args[1] for args in world.seen("bracket.start")} == {-EAGAIN}
    assert rt.now_ns >= 2_900_000_000
    assert not world.seen("frame.free")
    assert world.mm.flags.oom_skip


def test_faults_fail_once_the_reaper_has_begun():
    world = World(1)

    async def body():
        await oom_reap(world.mm)
        return await touch(world.mm, BASE)

    assert run(world, body)[0] == -EFAULT
