"""The end of a process in its order (spec.md 1.6), and what may still come afterwards."""

from __future__ import annotations

from errno import EFAULT, EINVAL

from host_toys import BASE, PAGE, VPN, Mirror, Script, World, brackets, huge_world, labels

from mshv_async.host import (
    collapse_huge_page,
    mmget_not_zero,
    mmput,
    mmu_interval_notifier_insert,
    mmu_interval_notifier_remove,
    pin_user_pages_fast,
    reclaim_pages,
    store,
    unpin_user_pages,
)
from mshv_async.host.notifier import NotifierEvent
from mshv_async.host.oom import _reap_once
from mshv_async.sim import Tag

HUGE = 512 * PAGE


def exiting(world, others=None, strategy=None, **options):
    bodies = {"vmm": lambda: mmput(world.mm), **(others or {})}
    return world.run(bodies, strategy, **options)


def test_each_subscription_hears_release_and_then_unmap_and_stays():
    world = World(4)
    world.mm.populate(BASE, 4)
    first, second = Mirror(world, 0, 2), Mirror(world, 2, 2)
    held = []
    callback = first.mni.ops

    async def look(mni, range, cur_seq):
        locks = [lock.cls for lock in world.mm.threads[0].held]
        held.append((range.event.name, locks, world.mm.users.count, len(world.mm.ptes) > 0))
        return await callback(mni, range, cur_seq)

    first.mni.ops = look
    exiting(world)
    assert held == [("RELEASE", [], 0, True), ("UNMAP", ["mmap_lock"], 0, True)]
    assert [(e.event.name, e.start, e.end, e.blockable) for e in second.events] == [
        ("RELEASE", 0, (1 << 64) - 1, True),
        ("UNMAP", 0, (1 << 64) - 1, True),
    ]
    assert world.mm.subscriptions.itree == (first.mni, second.mni)


def test_pages_go_inside_the_second_bracket_then_the_mark_then_the_vmas():
    world = World(2)
    world.mm.populate(BASE, 2)
    Mirror(world)
    skipped = []
    rt = exiting(world)
    order = [name for name, _ in world.probes if name not in {"callback.enter", "seq.change"}]
    assert order.index("frame.free") < len(order) - 1 - order[::-1].index("bracket.end")
    assert order[-1] == "vma.change"
    steps = labels(rt, "vmm")
    assert steps.index("page.free") < steps.index("rwsem.write_lock")
    assert world.mm.flags.oom_skip
    assert not skipped
    assert world.host.nr_free == 255


def test_exit_gives_every_kind_of_memory_back():
    world = huge_world(1024, swap=1024, hugetlb_2m=1)
    world.mm.populate(BASE, 1024)
    world.mm.add_vma(BASE + 2 * HUGE, HUGE, backing="hugetlb-2m")
    world.mm.populate(BASE + 2 * HUGE, 1)
    world.mm.add_vma(BASE + 3 * HUGE, HUGE, backing="device")

    async def body():
        await store(world.mm, BASE + 3 * HUGE, Tag("d"))
        await reclaim_pages(world.mm, BASE, 8)
        await mmput(world.mm)

    world.run({"vmm": body})
    host = world.host
    assert (host.nr_free, host.swap.nr_free) == (4095, 1024)
    assert sum(hi - lo for lo, hi, _ in host.free_huge) == 512
    assert not world.mm.ptes
    assert not host.rmap
    assert not host.contents.runs(0, host.device_pfn - 512)


def test_pinned_pages_outlive_the_process():
    world = huge_world()
    world.mm.populate(BASE, 512)

    async def body():
        _, runs = await pin_user_pages_fast(world.mm, BASE, 1)
        await mmput(world.mm)
        kept = world.host.nr_free
        unpin_user_pages(world.host, runs)
        return kept

    assert world.run({"vmm": body}) is not None
    assert world.results["vmm"] == 4095 - 512
    assert world.host.nr_free == 4095


def test_removal_after_the_exit_drops_the_last_reference():
    """A descriptor that outlives the mm: the notifier's reference keeps the structure."""
    world = World(2)
    world.mm.populate(BASE, 2)
    mirror = Mirror(world)

    async def body():
        await mmput(world.mm)
        assert world.mm.refs.count == 1
        assert await mmget_not_zero(world.mm) is False
        assert await mirror.fault() == -EFAULT, "there is no VMA any more"
        await mmu_interval_notifier_remove(mirror.mni)
        return world.mm.refs.count

    exiting(world, {"vmm": body})
    assert world.results["vmm"] == 0


def test_fault_without_users_succeeds_until_the_sweep_and_is_cleared_by_its_callback():
    """Between RELEASE and UNMAP a walker without mmget_not_zero still maps (bugs.md C17)."""
    world = World(1)
    mirror = Mirror(world)
    exiting(
        world,
        {"vp": mirror.fault},
        Script(("vmm", "rwsem.read_lock"), ("vp", "none"), ("vmm", "none")),
    )
    assert world.results["vp"] == 0
    assert not mirror.table, "the second callback took it away"
    assert world.host.nr_free == 255


def test_fault_after_the_sweep_and_before_the_vmas_go_leaks_its_page():
    """What the kernel reports as a bad rss counter: nobody sweeps again."""
    world = World(1)
    mirror = Mirror(world)
    exiting(
        world,
        {"vp": mirror.fault},
        Script(("vmm", "rwsem.write_arrive"), ("vp", "none"), ("vmm", "none")),
    )
    assert world.results["vp"] == 0
    assert world.host.nr_free == 254
    assert mirror.table


def test_mm_without_users_takes_neither_subscriptions_nor_huge_pages():
    world = huge_world()
    world.host.thp = "never"
    world.mm.populate(BASE, 512)
    world.host.thp = "madvise"
    late = Mirror(world, direct=False)

    async def late_comer():
        return (
            await mmu_interval_notifier_insert(late.mni, world.mm, BASE, HUGE, late.invalidate),
            await collapse_huge_page(world.mm, BASE),
        )

    exiting(world, {"vp": late_comer}, Script(("vmm", "pte.zap"), ("vp", "none")), fine=False)
    assert world.results["vp"] == (-EINVAL, -EINVAL)


def test_reaper_and_exit_at_once_free_each_page_once():
    world = World(4)
    world.mm.populate(BASE, 4)
    Mirror(world)
    exiting(
        world,
        {"reaper": lambda: _reap_once(world.mm, NotifierEvent.CLEAR)},
        Script(("reaper", "pte.zap"), ("vmm", "pte.zap"), ("reaper", "none"), ("vmm", "none")),
    )
    assert world.results["reaper"] is True
    assert world.host.nr_free == 255
    assert [event for event, _, _ in brackets(world)] == ["CLEAR", "RELEASE", "UNMAP"]
    assert not world.mm.ptes.runs(VPN, VPN + 4)
