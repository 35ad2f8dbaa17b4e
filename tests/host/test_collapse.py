"""khugepaged and MADV_COLLAPSE: small pages become a huge one, or stay as they were."""

from __future__ import annotations

from errno import EAGAIN, EINVAL, ENOMEM

import pytest
from host_toys import BASE, PAGE, VPN, Mirror, Script, World, brackets, huge_world, labels

from mshv_async.host import (
    collapse_huge_page,
    madvise,
    mprotect,
    pin_user_pages_fast,
    reclaim_pages,
    store,
    touch,
    unpin_user_pages,
)
from mshv_async.sim import Injection, Tag

HUGE = 512 * PAGE


def small_pages(world, count=512):
    """Populate with small pages, as if there had been no huge one at the time."""
    thp, world.host.thp = world.host.thp, "never"
    world.mm.populate(BASE, count)
    world.host.thp = thp


def run(world, body, **options):
    rt = world.run({"khugepaged": body}, **options)
    return world.results.get("khugepaged"), rt


def collapse(world, **options):
    return run(world, lambda: collapse_huge_page(world.mm, BASE), **options)


def test_collapse_moves_content_frees_the_old_pages_and_is_one_bracket_of_2mib():
    world = huge_world()
    small_pages(world)
    mirror = Mirror(world)

    async def body():
        await store(world.mm, BASE + 3 * PAGE, Tag("x"))
        await mirror.fault()
        assert await collapse_huge_page(world.mm, BASE) == 0
        return await touch(world.mm, BASE + 3 * PAGE), await touch(world.mm, BASE)

    result, _ = run(world, body)
    assert result == ("x", 0)
    assert brackets(world) == [("CLEAR", 0, 512)]
    assert [(hi - lo, p.order, p.write) for lo, hi, p in world.mm.ptes] == [(512, 9, True)]
    assert world.host.nr_free == 4095 - 512
    assert not mirror.table


def test_locks_and_the_end_of_the_bracket_come_in_the_kernels_order():
    world = huge_world()
    small_pages(world)
    held = []
    mirror = Mirror(world)
    callback = mirror.mni.ops

    async def look(mni, range, cur_seq):
        held.append([lock.cls for lock in world.mm.threads[0].held])
        return await callback(mni, range, cur_seq)

    mirror.mni.ops = look
    _, rt = collapse(world)
    assert held == [["mmap_lock", "rmap_lock"]]
    steps = labels(rt, "khugepaged")
    order = ["pmd.clear", "notifier.end", "collapse.isolate", "collapse.copy", "page.free"]
    assert [s for s in steps if s in {*order, "pmd.set"}] == [*order, "pmd.set"]


def test_holes_zero_pages_and_swapped_pages_become_part_of_it():
    world = huge_world(swap=1024)
    small_pages(world, 4)

    async def body():
        await store(world.mm, BASE + 2 * PAGE, Tag("x"))
        await reclaim_pages(world.mm, BASE + 2 * PAGE, 1)
        await touch(world.mm, BASE + 100 * PAGE)
        assert await collapse_huge_page(world.mm, BASE) == 0
        return await touch(world.mm, BASE + 2 * PAGE)

    assert run(world, body)[0] == "x"
    assert [(hi - lo, p.order) for lo, hi, p in world.mm.ptes] == [(512, 9)]
    assert world.host.swap.nr_free == 1024


def test_collapsed_twice_is_success_without_an_event():
    world = huge_world()
    world.mm.populate(BASE, 512)
    Mirror(world)
    assert collapse(world)[0] == 0
    assert brackets(world) == []


@pytest.mark.parametrize(
    ("why", "expected"),
    [("empty", -EINVAL), ("advice", -EINVAL), ("unaligned", -EINVAL), ("swap", -EINVAL),
     ("pin", -EAGAIN), ("memory", -ENOMEM)],
)  # fmt: skip
def test_reasons_not_to_collapse_leave_all_as_it_was(why, expected):
    world = huge_world(memory=700 if why == "memory" else 4096, swap=1024)
    if why != "empty":
        small_pages(world, 100)
    before = world.host.nr_free

    async def body():
        if why == "advice":
            await madvise(world.mm, BASE, HUGE, "nohugepage")
        if why == "swap":
            await reclaim_pages(world.mm, BASE, 65)
        if why == "pin":
            await pin_user_pages_fast(world.mm, BASE, 1)
        return await collapse_huge_page(world.mm, BASE + (PAGE if why == "unaligned" else 0))

    assert run(world, body)[0] == expected
    assert all(not pte.order for _, _, pte in world.mm.ptes)
    assert world.host.nr_free == before + (65 if why == "swap" else 0)


def test_madv_collapse_has_no_limits_of_khugepaged_and_goes_by_whole_2mib():
    world = World(1536, memory=8192, swap=1024, named=(), thp="madvise")
    small_pages(world, 1536)

    async def body():
        await reclaim_pages(world.mm, BASE + 512 * PAGE, 200)
        return await madvise(world.mm, BASE + PAGE, 1400 * PAGE, "collapse")

    assert run(world, body)[0] == 0
    assert [(lo - VPN, p.order) for lo, _, p in world.mm.ptes if p.order] == [(512, 9)]


def test_pin_that_comes_before_the_clearing_puts_the_small_pages_back():
    world = huge_world()
    small_pages(world)
    Mirror(world)
    world.run(
        {
            "khugepaged": lambda: collapse_huge_page(world.mm, BASE),
            "vmm": lambda: pin_user_pages_fast(world.mm, BASE + PAGE, 1),
        },
        Script(("khugepaged", "pmd.clear"), ("vmm", "none"), ("khugepaged", "none")),
    )
    assert world.results["khugepaged"] == -EAGAIN
    assert [(hi - lo, p.order) for lo, hi, p in world.mm.ptes] == [(512, 0)]
    assert world.host.nr_free == 4095 - 512
    assert brackets(world) == [("CLEAR", 0, 512)]


def test_page_under_reclaim_is_left_alone():
    world = huge_world(swap=1024)
    small_pages(world)
    world.run(
        {
            "khugepaged": lambda: collapse_huge_page(world.mm, BASE),
            "reclaimer": lambda: reclaim_pages(world.mm, BASE, 512),
        },
        Script(("reclaimer", "rwsem.read_lock"), ("khugepaged", "none"), ("reclaimer", "none")),
    )
    assert world.results["khugepaged"] == -EAGAIN
    assert world.results["reclaimer"] == 512


def test_injected_lack_of_a_huge_page_is_enomem():
    world = huge_world()
    small_pages(world)
    failure = Injection("alloc.collapse", errno="ENOMEM", force=True)
    assert collapse(world, injections=(failure,))[0] == -ENOMEM


def test_third_bracket_of_a11_is_the_collapse_after_the_split():
    """Partial DONTNEED, its split, and khugepaged putting the range together again."""
    world = huge_world()
    world.mm.populate(BASE, 512)
    Mirror(world)

    async def body():
        await madvise(world.mm, BASE + 8 * PAGE, 8 * PAGE, "dontneed")
        return await collapse_huge_page(world.mm, BASE)

    assert run(world, body)[0] == 0
    assert brackets(world) == [("CLEAR", 8, 8), ("CLEAR", 0, 512), ("CLEAR", 0, 512)]
    assert world.host.nr_free == 4095 - 512, "the old folio went as a whole"


def test_rights_taken_and_given_back_let_khugepaged_join_the_range_again():
    world = huge_world()
    world.mm.populate(BASE, 512)

    async def body():
        await mprotect(world.mm, BASE + 8 * PAGE, 8 * PAGE, "r")
        assert await collapse_huge_page(world.mm, BASE) == -EINVAL, "three VMAs"
        await mprotect(world.mm, BASE + 8 * PAGE, 8 * PAGE, "rw")
        return await collapse_huge_page(world.mm, BASE)

    assert run(world, body)[0] == 0
    assert len(world.mm.vmas) == 1


def test_pages_of_a_split_leaf_with_a_pin_stay_until_unpinned():
    world = huge_world()
    world.mm.populate(BASE, 512)

    async def body():
        _, runs = await pin_user_pages_fast(world.mm, BASE, 1)
        await mprotect(world.mm, BASE + PAGE, PAGE, "r")
        await mprotect(world.mm, BASE + PAGE, PAGE, "rw")
        await madvise(world.mm, BASE, HUGE, "dontneed")
        kept = world.host.nr_free
        unpin_user_pages(world.host, runs)
        return kept, world.host.nr_free

    assert run(world, body)[0] == (4095 - 512, 4095)
