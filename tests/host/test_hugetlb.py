"""hugetlb pages of 2 MiB and 1 GiB, device memory, and ranges of several backings."""

from __future__ import annotations

from errno import EFAULT, EINVAL

import pytest
from host_toys import BASE, PAGE, VPN, Mirror, Script, World, brackets

from mshv_async.host import (
    Folio,
    PteState,
    collapse_huge_page,
    madvise,
    mmap_fixed,
    mprotect,
    munmap,
    pin_user_pages_fast,
    reclaim_pages,
    store,
    touch,
    unpin_user_pages,
    vma_lookup,
)
from mshv_async.sim import Tag

A = Tag("a")
HUGE = 512 * PAGE
GIB = 512 * HUGE


def run(world, body, **options):
    rt = world.run({"vmm": body}, **options)
    return world.results.get("vmm"), rt


def pool(world):
    return sum(hi - lo for lo, hi, _ in world.host.free_huge)


def hugetlb_world(pages=1024, reserved=2, **options):
    return World(pages, named=(), backing="hugetlb-2m", hugetlb_2m=reserved, **options)


def test_fault_takes_the_pools_lowest_page_and_ordinary_memory_is_not_touched():
    world = hugetlb_world()
    run(world, lambda: store(world.mm, BASE + 700 * PAGE, A))
    [(lo, hi, pte)] = world.mm.ptes
    assert (lo - VPN, hi - lo, pte.order, pte.write) == (512, 512, 9, True)
    assert world.host.folio(pte.pfn + 5) == Folio(pte.pfn, 9, hugetlb=True)
    assert pte.pfn % 512 == 0
    assert pte.pfn >= world.host.pages
    assert world.host.nr_free == 255


def test_read_fault_allocates_too_and_the_write_needs_no_event():
    world = hugetlb_world()
    Mirror(world)

    async def body():
        assert await touch(world.mm, BASE) == 0
        assert not world.mm.ptes.get(VPN).write
        assert await store(world.mm, BASE + PAGE, A) == 0
        return await touch(world.mm, BASE + PAGE)

    assert run(world, body)[0] == A
    assert brackets(world) == []
    assert [(hi - lo, p.write) for lo, hi, p in world.mm.ptes] == [(512, True)]


def test_exhausted_pool_is_sigbus_which_hmm_and_pins_report_as_efault():
    world = hugetlb_world(reserved=1)
    mirror = Mirror(world, 512)

    async def body():
        await store(world.mm, BASE, A)
        pin = await pin_user_pages_fast(world.mm, BASE + HUGE, 1)
        return await store(world.mm, BASE + HUGE, A), pin, await mirror.fault(512, 512)

    assert run(world, body)[0] == (-EFAULT, (-EFAULT, []), -EFAULT)


def test_pool_gets_its_page_back_when_the_last_of_it_goes():
    world = hugetlb_world(reserved=1)

    async def body():
        await store(world.mm, BASE, A)
        _, runs = await pin_user_pages_fast(world.mm, BASE, 1)
        await munmap(world.mm, BASE, HUGE)
        assert pool(world) == 0, "the pin keeps it"
        unpin_user_pages(world.host, runs)
        assert pool(world) == 512, "it is back"
        assert await store(world.mm, BASE + HUGE, A) == 0
        return await touch(world.mm, BASE + HUGE + PAGE)

    assert run(world, body)[0] == 0
    assert world.host.nr_free == 255


def test_system_calls_go_by_whole_huge_pages():
    world = hugetlb_world()
    world.mm.populate(BASE, 1024)
    Mirror(world)

    async def body():
        return [
            await munmap(world.mm, BASE, PAGE),
            await mprotect(world.mm, BASE + PAGE, PAGE, "r"),
            await mmap_fixed(world.mm, BASE + PAGE, PAGE),
            await madvise(world.mm, BASE + PAGE, HUGE, "dontneed"),
            await madvise(world.mm, BASE, HUGE - PAGE, "dontneed"),
            await madvise(world.mm, BASE, HUGE, "free"),
            await madvise(world.mm, BASE, HUGE, "pageout"),
            await madvise(world.mm, BASE, HUGE, "collapse"),
        ]

    assert run(world, body)[0] == [-EINVAL] * 4 + [0] + [-EINVAL] * 3
    assert brackets(world) == []
    assert len(world.mm.ptes.runs(VPN, VPN + 1024)) == 1


def test_dontneed_is_rounded_down():
    world = hugetlb_world()
    world.mm.populate(BASE, 1024)
    Mirror(world)
    assert run(world, lambda: madvise(world.mm, BASE, 600 * PAGE, "dontneed"))[0] == 0
    assert brackets(world) == [("CLEAR", 0, 512)]
    assert pool(world) == 512


def test_mprotect_of_hugetlb_is_an_event_even_if_nothing_is_populated():
    world = hugetlb_world()
    Mirror(world)
    run(world, lambda: mprotect(world.mm, BASE, HUGE, "r"))
    assert brackets(world) == [("PROTECTION_VMA", 0, 512)]


@pytest.mark.parametrize(("backing", "order"), [("hugetlb-2m", 9), ("hugetlb-1g", 18)])
def test_huge_page_that_is_faulted_in_during_a_walk_is_never_cut(backing, order):
    size = 1 << order
    world = World(
        2 * size, named=(VPN + 5, VPN + size + 5), backing=backing, hugetlb_2m=2, hugetlb_1g=2
    )  # fmt: skip
    rt = world.run(
        {
            "vmm": lambda: madvise(world.mm, BASE, 2 * size * PAGE, "dontneed"),
            "vp": lambda: store(world.mm, BASE, A),
        },
        Script(("vmm", "pte.zap"), ("vmm", "none"), ("vp", "none")),
    )
    world.run(
        {
            "vmm": lambda: madvise(world.mm, BASE, 2 * size * PAGE, "dontneed"),
            "vp": lambda: store(world.mm, BASE + size * PAGE, A),
        },
        Script(("vmm", "pte.zap"), ("vp", "none"), ("vmm", "none")),
    )
    assert {pte.order for _, _, pte in world.mm.ptes} <= {order}
    assert "pmd.split" not in {op.label for _, op in rt.trace}
    assert pool(world) == (2 << 9) + (2 << 18)


def test_reclaim_and_khugepaged_leave_hugetlb_alone():
    world = hugetlb_world(swap=2048)
    world.mm.populate(BASE, 1024)

    async def body():
        return await reclaim_pages(world.mm, BASE, 1024), await collapse_huge_page(world.mm, BASE)

    assert run(world, body)[0] == (0, -EINVAL)


def test_two_faults_on_the_last_huge_page_both_succeed():
    world = hugetlb_world(512, 1)
    bodies = {n: (lambda n=n: store(world.mm, BASE, Tag(n))) for n in ("a", "b")}
    world.run(bodies, Script(("a", "alloc.hugetlb"), ("b", "none"), ("a", "none")))
    assert world.results == {"a": 0, "b": 0}


def test_gigantic_page_is_one_leaf_of_order_18():
    world = World(1 << 18, named=(), backing="hugetlb-1g", hugetlb_1g=1)
    mirror = Mirror(world)

    async def body():
        await store(world.mm, BASE + 12345 * PAGE, A)
        await mirror.fault(1000, 512)
        return await touch(world.mm, BASE + 12345 * PAGE)

    result, rt = run(world, body)
    assert result == A
    [(lo, hi, pte)] = world.mm.ptes
    assert (hi - lo, pte.order, pte.pfn % (1 << 18)) == (1 << 18, 18, 0)
    assert {w.order for _, _, w in mirror.table} == {18}
    assert rt.steps < 60, "a gigantic page costs no more than a small one"


# -- device memory and mixtures --------------------------------------------------------------


def test_device_memory_has_pfns_above_ram_and_its_vma_names_the_first():
    world = World(8, hugetlb_2m=1)
    vma = world.mm.add_vma(BASE + HUGE, 600 * PAGE, backing="device")
    other = world.mm.add_vma(BASE + 4 * HUGE, PAGE, backing="device")
    assert vma.flags == {"IO", "PFNMAP"}
    assert vma.pgoff % 512 == 0
    assert vma.pgoff >= 1024
    assert other.pgoff == vma.pgoff + 1024


def test_vmm_uses_device_memory_but_hmm_and_pins_refuse_it():
    world = World(512)
    world.mm.add_vma(BASE + HUGE, 8 * PAGE, backing="device")
    mirror = Mirror(world, 512, 8)

    async def body():
        assert await store(world.mm, BASE + HUGE + PAGE, A) == 0
        assert await touch(world.mm, BASE + HUGE + PAGE) == A
        entry = world.mm.ptes.get(VPN + 513)
        assert entry.state is PteState.SPECIAL
        assert entry.pfn == vma_lookup(world.mm, BASE + HUGE).pgoff + 1
        return await mirror.fault(512, 1), await pin_user_pages_fast(world.mm, BASE + HUGE, 1)

    assert run(world, body)[0] == (-EFAULT, (-EFAULT, []))
    assert not world.seen("frame.pin")


def test_device_memory_loses_rights_with_mprotect():
    world = World(8)
    world.mm.add_vma(BASE + HUGE, 2 * PAGE, backing="device")
    at = BASE + HUGE

    async def body():
        await store(world.mm, at, A)
        await mprotect(world.mm, at, PAGE, "r")
        got = [await store(world.mm, at, A), await touch(world.mm, at)]
        await mprotect(world.mm, at, PAGE, "none")
        return [*got, await touch(world.mm, at)]

    assert run(world, body)[0] == [-EFAULT, A, -EFAULT]


@pytest.fixture
def mixed():
    """Two MiB each of hugetlb, THP, small pages and device memory, in this order."""
    world = World(2048, memory=4096, swap=4096, named=(), thp="madvise", hugetlb_2m=1)
    world.mm.vmas.clear(VPN, VPN + 2048)
    for index, backing in enumerate(("hugetlb-2m", "thp", "anon", "device")):
        world.mm.add_vma(BASE + index * HUGE, HUGE, backing=backing)
    return world


def test_one_walk_over_several_backings_gives_each_its_order(mixed):
    mirror = Mirror(mixed, 0, 1536)
    assert run(mixed, mirror.fault)[0] == 0
    assert [mirror.table.get(VPN + page).order for page in (0, 511, 512, 1024, 1535)] == [
        9, 9, 9, 0, 0,
    ]  # fmt: skip
    whole = Mirror(mixed, 0, 2048)
    mixed.run({"vp": whole.fault})
    assert mixed.results["vp"] == -EFAULT, "device memory fails the whole range"


def test_munmap_across_backings_is_one_event_and_gives_everything_back(mixed):
    mixed.mm.populate(BASE, 1536)
    Mirror(mixed, 0, 1536)
    assert run(mixed, lambda: munmap(mixed.mm, BASE, 4 * HUGE))[0] == 0
    assert brackets(mixed) == [("UNMAP", 0, 2048)]
    assert (mixed.host.nr_free, pool(mixed)) == (4095, 512)
    assert not mixed.mm.ptes
    assert not mixed.host.rmap


def test_mprotect_and_dontneed_across_backings_go_vma_by_vma(mixed):
    mixed.mm.populate(BASE, 1536)
    Mirror(mixed, 0, 1536)

    async def body():
        return (
            await mprotect(mixed.mm, BASE, 3 * HUGE, "r"),
            await madvise(mixed.mm, BASE, 4 * HUGE, "dontneed"),
        )

    assert run(mixed, body)[0] == (0, -EINVAL)
    assert brackets(mixed) == [
        ("PROTECTION_VMA", 0, 512),
        ("PROTECTION_VMA", 512, 512),
        ("PROTECTION_VMA", 1024, 512),
        ("CLEAR", 0, 512),
        ("CLEAR", 512, 512),
        ("CLEAR", 1024, 512),
    ]


def test_pageout_across_backings_stops_at_hugetlb(mixed):
    mixed.mm.populate(BASE, 1536)

    async def body():
        first = await madvise(mixed.mm, BASE, 2 * HUGE, "pageout")
        return first, await madvise(mixed.mm, BASE + HUGE, 2 * HUGE, "pageout")

    assert run(mixed, body)[0] == (-EINVAL, 0)
    assert mixed.host.nr_free == 4095
    assert mixed.host.swap.nr_free == 4096 - 1024
