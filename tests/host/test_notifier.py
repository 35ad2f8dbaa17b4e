"""Insertion, removal and both parities of the notifier sequence (spec.md 2.2)."""

from __future__ import annotations

from errno import EINTR, EINVAL, ENOMEM, EOVERFLOW

import pytest
from host_toys import BASE, PAGE, Mirror, Script, World

from mshv_async.host import (
    MmuIntervalNotifier,
    MmuNotifierRange,
    NotifierEvent,
    exit_mmap,
    invalidate_range_end,
    invalidate_range_start,
    madvise,
    mmu_interval_notifier_insert,
    mmu_interval_notifier_remove,
    mmu_interval_read_begin,
)
from mshv_async.sim import Injection, step


def bracket(world, page, pages=1, *, blockable=True, event=NotifierEvent.CLEAR):
    start = BASE + page * PAGE
    return MmuNotifierRange(world.mm, start, start + pages * PAGE, event, blockable)


async def call_nothing(mni, range, cur_seq):
    return True


async def insert(world, mni, page, pages=1):
    return await mmu_interval_notifier_insert(
        mni, world.mm, BASE + page * PAGE, pages * PAGE, call_nothing
    )


def test_insertion_without_a_bracket_is_never_hit():
    world, mni = World(), MmuIntervalNotifier("mni")
    world.run({"vmm": lambda: insert(world, mni, 0)})
    assert world.results["vmm"] == 0
    assert mni.invalidate_seq.n == 1
    assert world.mm.subscriptions.invalidate_seq.n == 2
    assert world.mm.refs.count == 2


def test_insertion_inside_a_colliding_or_other_bracket_makes_its_readers_wait():
    """Row 2: the tree is not frozen, so the subscription is in at once, and the mm turns odd."""
    world, late = World(), MmuIntervalNotifier("late")
    Mirror(world, 0, 1)

    async def body():
        other = bracket(world, 5)
        await invalidate_range_start(other)
        assert not world.mm.subscriptions.invalidate_seq.odd
        await insert(world, late, 3)
        inside = world.mm.subscriptions.invalidate_seq
        assert inside.odd
        assert late.invalidate_seq == inside
        assert late in world.mm.subscriptions.itree
        await invalidate_range_end(other)
        assert await mmu_interval_read_begin(late) == inside
        assert not world.mm.subscriptions.invalidate_seq.odd

    world.run({"vmm": body})


def test_insertion_while_the_tree_is_frozen_is_deferred():
    """Row 3: no callback for the deferred one until the sequence is even again."""
    world, late = World(), MmuIntervalNotifier("late")
    Mirror(world, 0, 1)

    async def body():
        hit, second = bracket(world, 0), bracket(world, 3)
        await invalidate_range_start(hit)
        await insert(world, late, 3)
        assert late not in world.mm.subscriptions.itree
        await invalidate_range_start(second)
        await invalidate_range_end(hit)
        assert late not in world.mm.subscriptions.itree, "still frozen: a bracket is open"
        await invalidate_range_end(second)
        assert late in world.mm.subscriptions.itree

    world.run({"vmm": body})
    assert [args[0].name for args in world.seen("callback.enter")] == ["mni0"]


def test_removal_while_deferred_cancels_the_insertion_without_waiting():
    world, late = World(), MmuIntervalNotifier("late")
    Mirror(world, 0, 1)

    async def body():
        hit = bracket(world, 0)
        await invalidate_range_start(hit)
        await insert(world, late, 3)
        await mmu_interval_notifier_remove(late)
        await invalidate_range_end(hit)
        assert late not in world.mm.subscriptions.itree

    world.run({"vmm": body})


def test_removal_waits_for_the_bracket_and_no_callback_follows():
    world = World(1)
    mirror = Mirror(world)

    async def host():
        await invalidate_range_start(bracket(world, 0))
        await step("open")
        await invalidate_range_end(bracket(world, 0))
        await madvise(world.mm, BASE, PAGE, "dontneed")

    rt = world.run(
        {"vmm": lambda: mmu_interval_notifier_remove(mirror.mni), "host": host},
        Script(("host", "open"), ("vmm", "none"), ("host", "none")),
    )
    assert any(op.label == "wait.sleep" for _, op in rt.trace)
    assert len(mirror.events) == 1
    assert not world.mm.subscriptions.itree
    assert world.mm.refs.count == 1


def test_removal_from_the_callback_is_a_deadlock_of_one():
    world = World(1)
    mirror = Mirror(world)

    async def suicide(mni, range, cur_seq):
        await mmu_interval_notifier_remove(mni)
        return True

    mirror.mni.ops = suicide
    rt = world.run({"host": lambda: madvise(world.mm, BASE, PAGE, "dontneed")}, fine=False)
    assert rt.finding.verdict == "deadlock"


def test_sequence_stays_odd_until_no_bracket_at_all_is_open():
    world = World()
    Mirror(world, 0, 1)

    async def body():
        colliding, other = bracket(world, 0), bracket(world, 7)
        await invalidate_range_start(other)
        await invalidate_range_start(colliding)
        odd = world.mm.subscriptions.invalidate_seq
        assert odd.n == 3
        await invalidate_range_end(colliding)
        assert world.mm.subscriptions.invalidate_seq == odd
        await invalidate_range_end(other)
        assert world.mm.subscriptions.invalidate_seq.n == 4

    world.run({"host": body})


def test_refused_non_blockable_range_ends_itself_and_calls_nobody_else():
    world = World(3)
    first, second, third = (Mirror(world, page, 1) for page in range(3))
    second.refuse = True

    async def body():
        assert await invalidate_range_start(bracket(world, 0, 3, blockable=False)) < 0
        assert world.mm.subscriptions.active_invalidate_ranges == 0
        assert not world.mm.subscriptions.invalidate_seq.odd

    world.run({"host": body})
    assert [len(m.events) for m in (first, second, third)] == [1, 1, 0]
    assert len(world.seen("bracket.end")) == 1


def test_refused_blockable_range_warns_and_the_core_goes_on():
    """The page is freed although the mirror still has it: what a reviewer must learn of."""
    world = World(1)
    world.mm.populate(BASE, 1)
    mirror = Mirror(world)
    mirror.refuse = True

    async def body():
        assert await mirror.fault() == 0
        return await madvise(world.mm, BASE, PAGE, "dontneed")

    rt = world.run({"host": body})
    assert rt.warnings
    assert world.seen("frame.free")
    assert mirror.stale()


def test_sleeping_in_a_non_blockable_callback_is_reported():
    world = World(1)
    mirror = Mirror(world)

    async def sleeper(mni, range, cur_seq):
        await mirror.mutex.lock()
        return True

    mirror.mni.ops = sleeper
    rt = world.run(
        {"host": lambda: invalidate_range_start(bracket(world, 0, blockable=False))}, fine=False
    )
    assert rt.finding.verdict == "sleep-in-atomic"


def test_callback_that_keeps_its_lock_is_lost_unlock():
    world = World(1)
    mirror = Mirror(world)

    async def keeper(mni, range, cur_seq):
        await mirror.mutex.lock()
        return True

    mirror.mni.ops = keeper
    rt = world.run({"host": lambda: invalidate_range_start(bracket(world, 0))}, fine=False)
    assert rt.finding.verdict == "lost-unlock"


@pytest.mark.parametrize("length", [0, 1 << 64])
def test_impossible_length_is_eoverflow(length):
    world = World()
    world.run(
        {
            "vmm": lambda: mmu_interval_notifier_insert(
                MmuIntervalNotifier("mni"), world.mm, BASE, length, call_nothing
            )
        }
    )
    assert world.results["vmm"] == -EOVERFLOW


def test_insertion_into_a_dying_mm_warns():
    world = World()
    Mirror(world, 0, 1)
    world.mm.users.dec_and_test()
    rt = world.run({"vmm": lambda: insert(world, MmuIntervalNotifier("mni"), 0)})
    assert world.results["vmm"] == -EINVAL
    assert rt.warnings


def test_first_insertion_fails_with_eintr_when_a_fatal_signal_is_pending():
    world = World()

    async def body():
        world.mm.threads[0].signal_fatal()
        return await insert(world, MmuIntervalNotifier("mni"), 0)

    world.run({"vmm": body})
    assert world.results["vmm"] == -EINTR
    assert world.mm.subscriptions is None


def test_injected_insertion_failure_is_returned():
    world = World()
    failure = Injection("notifier.insert", errno="ENOMEM", force=True)
    world.run({"vmm": lambda: insert(world, MmuIntervalNotifier("mni"), 0)}, injections=(failure,))
    assert world.results["vmm"] == -ENOMEM


def test_callback_can_come_before_insert_returns():
    world, mni = World(1), MmuIntervalNotifier("mni")
    called = []

    async def early(mni, range, cur_seq):
        called.append("vmm" in world.results)
        return True

    world.run(
        {
            "vmm": lambda: mmu_interval_notifier_insert(mni, world.mm, BASE, PAGE, early),
            "host": lambda: madvise(world.mm, BASE, PAGE, "dontneed"),
        },
        Script(("vmm", "notifier.insert_return"), ("host", "none")),
    )
    assert called == [False]


def test_exit_calls_back_twice_and_leaves_the_subscription_in_the_tree():
    world = World(2)
    world.mm.populate(BASE, 2)
    mirror = Mirror(world)

    async def body():
        await mirror.fault()
        await exit_mmap(world.mm)

    world.run({"vmm": body})
    assert [e.event.name for e in mirror.events] == ["RELEASE", "UNMAP"]
    assert mirror.events[0].end == (1 << 64) - 1
    assert world.mm.subscriptions.itree == (mirror.mni,)
    assert not world.mm.vmas
    assert world.host.nr_free == 255
