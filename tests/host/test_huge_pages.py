"""Transparent huge pages: who gets them, what splits them, and in which brackets (bugs.md A11)."""

from __future__ import annotations

import pytest
from host_toys import BASE, PAGE, VPN, Mirror, Script, World, brackets, huge_world, labels

from mshv_async.host import (
    Folio,
    PteState,
    madvise,
    mmap_fixed,
    mprotect,
    munmap,
    pin_user_pages_fast,
    reclaim_pages,
    reclaim_some,
    store,
    touch,
    unpin_user_pages,
    vma_lookup,
)
from mshv_async.sim import Injection, Tag

A, B = Tag("a"), Tag("b")
HUGE = 512 * PAGE


def run(world, body, **options):
    rt = world.run({"vmm": body}, **options)
    return world.results.get("vmm"), rt


def orders(world):
    """Runs of the table as (first page, pages, order)."""
    return [(lo - VPN, hi - lo, pte.order) for lo, hi, pte in world.mm.ptes]


# -- faults ----------------------------------------------------------------------------------


def test_write_fault_maps_one_folio_by_one_leaf_without_an_event():
    world = huge_world()
    Mirror(world)
    _, rt = run(world, lambda: store(world.mm, BASE + 5 * PAGE, A))
    assert orders(world) == [(0, 512, 9)]
    pte = world.mm.ptes.get(VPN + 5)
    assert world.host.folio(pte.pfn) == Folio(pte.pfn - 5, 9)
    assert (pte.pfn - 5) % 512 == 0
    assert world.host.nr_free == 4095 - 512
    assert brackets(world) == []
    assert labels(rt, "vmm").count("pmd.set") == 1


@pytest.mark.parametrize(
    ("thp", "backing", "advice", "order"),
    [
        ("never", "thp", None, 0),
        ("madvise", "anon", None, 0),
        ("madvise", "anon", "hugepage", 9),
        ("always", "anon", None, 9),
        ("always", "anon", "nohugepage", 0),
        ("madvise", "thp", "nohugepage", 0),
    ],
)
def test_host_setting_and_advice_decide_who_gets_huge_pages(thp, backing, advice, order):
    world = World(512, memory=2048, named=(), backing=backing, thp=thp)

    async def body():
        if advice:
            assert await madvise(world.mm, BASE, HUGE, advice) == 0
        await store(world.mm, BASE, A)

    run(world, body)
    assert world.mm.ptes.get(VPN).order == order


def test_vma_too_small_or_partly_populated_gets_small_pages():
    small = huge_world(511)
    run(small, lambda: store(small.mm, BASE, A))
    assert orders(small) == [(0, 1, 0)]

    world = huge_world()

    async def body():
        await madvise(world.mm, BASE, HUGE, "nohugepage")
        await store(world.mm, BASE, A)
        await madvise(world.mm, BASE, HUGE, "hugepage")
        await store(world.mm, BASE + 9 * PAGE, A)

    run(world, body)
    assert {order for _, _, order in orders(world)} == {0}


def test_no_block_or_an_injected_failure_falls_back_to_small_pages():
    world = huge_world(memory=600)  # the only aligned block of 512 begins with the zero page
    run(world, lambda: store(world.mm, BASE, A))
    assert orders(world) == [(0, 1, 0)]
    world = huge_world()
    failure = Injection("alloc.thp", errno="ENOMEM", force=True)
    run(world, lambda: store(world.mm, BASE, A), injections=(failure,))
    assert orders(world) == [(0, 1, 0)]


def test_read_fault_maps_the_huge_zero_page_and_a_write_replaces_it_in_a_2mib_bracket():
    world = huge_world()
    mirror = Mirror(world)

    async def body():
        assert await touch(world.mm, BASE) == 0
        assert orders(world) == [(0, 512, 9)]
        assert world.mm.ptes.get(VPN + 7).state is PteState.ZERO
        assert world.host.nr_free == 4095
        await store(world.mm, BASE + 7 * PAGE, A)
        return await touch(world.mm, BASE + 7 * PAGE)

    assert run(world, body)[0] == A
    assert brackets(world) == [("CLEAR", 0, 512)]
    assert orders(world) == [(0, 512, 9)]
    assert not mirror.stale()


def test_huge_zero_page_is_split_when_no_huge_page_is_to_be_had():
    world = huge_world(memory=600)
    Mirror(world)

    async def body():
        await touch(world.mm, BASE)
        await store(world.mm, BASE + 7 * PAGE, A)
        return await touch(world.mm, BASE + 7 * PAGE), await touch(world.mm, BASE)

    assert run(world, body)[0] == (A, 0)
    assert brackets(world) == [("CLEAR", 0, 512), ("CLEAR", 7, 1)]


def test_two_faults_on_one_huge_page_install_one_folio():
    world = huge_world()
    bodies = {n: (lambda n=n: store(world.mm, BASE, Tag(n))) for n in ("a", "b")}
    world.run(bodies, Script(("a", "pmd.set"), ("b", "none"), ("a", "none")))
    assert world.host.nr_free == 4095 - 512
    assert len(world.seen("frame.free")) == 1


def test_hmm_delivers_the_order_of_the_mapping_not_of_the_folio():
    world = huge_world(1024)
    mirror = Mirror(world)

    async def body():
        await mirror.fault()
        assert [(w.order, w.writable) for _, _, w in mirror.table] == [(9, True)]
        await mprotect(world.mm, BASE, PAGE, "r")
        return [world.host.folio(world.mm.ptes.get(VPN + i).pfn).order for i in (0, 1)]

    assert run(world, body)[0] == [9, 9]
    assert world.mm.ptes.get(VPN + 1).order == 0
    world.run({"vp": lambda: mirror.fault(1, 1023)})
    assert [(lo - VPN, w.order) for lo, _, w in mirror.table] == [(1, 0), (512, 9)]


# -- splits ----------------------------------------------------------------------------------


def test_partial_dontneed_is_two_brackets_the_advised_part_while_the_leaf_is_whole():
    """A11: 32 KiB of a huge page, then the 2 MiB of the split, inside the first."""
    world = huge_world()
    world.mm.populate(BASE, 512)
    mirror = Mirror(world)
    seen = []
    callback = mirror.mni.ops

    async def look(mni, range, cur_seq):
        seen.append(world.mm.ptes.get(VPN).order)
        return await callback(mni, range, cur_seq)

    mirror.mni.ops = look
    run(world, lambda: madvise(world.mm, BASE + 8 * PAGE, 8 * PAGE, "dontneed"))
    assert brackets(world) == [("CLEAR", 8, 8), ("CLEAR", 0, 512)]
    order = [name for name, _ in world.probes if name.startswith("bracket")]
    assert order == ["bracket.begin", "bracket.start"] * 2 + ["bracket.end"] * 2
    assert seen == [9, 9]
    assert orders(world) == [(0, 8, 0), (16, 496, 0)]
    assert not world.seen("frame.free"), "the folio is whole until all of it goes"
    assert world.host.folio(world.mm.ptes.get(VPN).pfn + 9).order == 9


def test_whole_dontneed_is_one_bracket_and_frees_the_folio():
    world = huge_world()
    world.mm.populate(BASE, 512)
    _, rt = run(world, lambda: madvise(world.mm, BASE, HUGE, "dontneed"))
    assert brackets(world) == []  # nobody listens, so nothing is opened
    assert "pmd.split" not in labels(rt, "vmm")
    assert world.host.nr_free == 4095
    assert not world.host.folios


def test_partial_mprotect_splits_first_and_then_has_its_own_bracket():
    world = huge_world()
    world.mm.populate(BASE, 512)
    mirror = Mirror(world)
    run(world, lambda: mprotect(world.mm, BASE + 8 * PAGE, 8 * PAGE, "r"))
    assert brackets(world) == [("CLEAR", 0, 512), ("PROTECTION_VMA", 8, 8)]
    order = [name for name, _ in world.probes if name.startswith("bracket")]
    assert order == ["bracket.begin", "bracket.start", "bracket.end"] * 2
    assert [e.event.name for e in mirror.events] == ["CLEAR", "PROTECTION_VMA"]
    assert not world.mm.ptes.get(VPN + 9).write
    assert world.mm.ptes.get(VPN + 16).write


def test_whole_mprotect_keeps_the_leaf():
    world = huge_world()
    world.mm.populate(BASE, 512)
    Mirror(world)

    async def body():
        for prot in ("r", "none", "rw"):
            assert await mprotect(world.mm, BASE, HUGE, prot) == 0
        return await store(world.mm, BASE, A)

    assert run(world, body)[0] == 0
    assert [event for event, _, _ in brackets(world)] == ["PROTECTION_VMA"] * 3
    assert orders(world) == [(0, 512, 9)]


def test_partial_munmap_splits_under_the_write_lock_before_its_own_bracket():
    world = huge_world()
    world.mm.populate(BASE, 512)
    Mirror(world)
    _, rt = run(world, lambda: munmap(world.mm, BASE, 100 * PAGE))
    assert brackets(world) == [("CLEAR", 0, 512), ("UNMAP", 0, 100)]
    steps = labels(rt, "vmm")
    assert steps.index("pmd.split") < steps.index("vma.detach") < steps.index("rwsem.downgrade")


def test_unmapped_parts_are_freed_when_the_last_part_goes():
    world = huge_world()
    world.mm.populate(BASE, 512)

    async def body():
        free = []
        for page in (0, 200, 400):
            await munmap(world.mm, BASE + page * PAGE, 200 * PAGE)
            free.append(world.host.nr_free)
        return free

    assert run(world, body)[0] == [4095 - 512, 4095 - 512, 4095]


def test_mmap_fixed_over_part_of_a_huge_page_leaves_the_rest_and_its_content():
    world = huge_world()

    async def body():
        await store(world.mm, BASE + 300 * PAGE, A)
        await mmap_fixed(world.mm, BASE, 10 * PAGE, backing="device")
        return await touch(world.mm, BASE + 300 * PAGE)

    assert run(world, body)[0] == A
    assert vma_lookup(world.mm, BASE).raw


# -- MADV_FREE, reclaim ----------------------------------------------------------------------


def test_madv_free_of_part_splits_the_folio_and_of_all_keeps_the_leaf():
    world = huge_world(1024)
    world.mm.populate(BASE, 1024)
    Mirror(world)
    run(world, lambda: madvise(world.mm, BASE, (512 + 8) * PAGE, "free"))
    assert brackets(world) == [("CLEAR", 0, 520), ("CLEAR", 512, 512)]
    assert orders(world)[0] == (0, 512, 9)
    assert not world.mm.ptes.get(VPN).dirty
    assert not world.mm.ptes.get(VPN + 519).dirty
    assert world.mm.ptes.get(VPN + 520).dirty
    assert world.host.folio(world.mm.ptes.get(VPN + 600).pfn).order == 0


def test_madv_free_of_part_of_a_pinned_huge_page_does_nothing():
    world = huge_world()
    world.mm.populate(BASE, 512)

    async def body():
        await pin_user_pages_fast(world.mm, BASE, 1)
        return await madvise(world.mm, BASE, 8 * PAGE, "free")

    assert run(world, body)[0] == 0
    assert world.mm.ptes.get(VPN).dirty
    assert orders(world) == [(0, 512, 9)]


def test_store_after_madv_free_dirties_the_leaf():
    world = huge_world()

    async def body():
        await store(world.mm, BASE, A)
        await madvise(world.mm, BASE, HUGE, "free")
        await store(world.mm, BASE + PAGE, B)

    run(world, body)
    assert [(hi - lo, pte.dirty) for lo, hi, pte in world.mm.ptes] == [(512, True)]


def test_reclaim_splits_the_folio_and_content_survives_swap():
    world = huge_world(swap=1024)
    Mirror(world)

    async def body():
        for page in (0, 7, 511):
            await store(world.mm, BASE + page * PAGE, Tag(f"t{page}"))
        assert await reclaim_pages(world.mm, BASE, 512) == 512
        assert world.host.nr_free == 4095
        return [await touch(world.mm, BASE + page * PAGE) for page in (0, 7, 511, 8)]

    assert run(world, body)[0] == ["t0", "t7", "t511", 0]
    assert brackets(world)[:2] == [("CLEAR", 0, 512), ("CLEAR", 0, 512)]
    assert len(world.seen("folio.split")) == 1


def test_pageout_of_part_takes_only_that_part():
    world = huge_world(swap=1024)
    world.mm.populate(BASE, 512)
    Mirror(world)
    run(world, lambda: madvise(world.mm, BASE + 8 * PAGE, 4 * PAGE, "pageout"))
    assert brackets(world) == [("CLEAR", 0, 512), ("CLEAR", 8, 4)]
    assert world.host.nr_free == 4095 - 508


def test_pressure_splits_folios_with_unmapped_parts():
    """Deferred split: what DONTNEED gave up comes back when memory is wanted."""
    world = huge_world()
    world.mm.populate(BASE, 512)

    async def body():
        await madvise(world.mm, BASE, 500 * PAGE, "dontneed")
        assert world.host.nr_free == 4095 - 512
        return await reclaim_some(world.host, 10)

    assert run(world, body)[0] == 500
    assert world.host.nr_free == 4095 - 12


def test_walker_that_meets_a_split_waits_and_goes_on():
    world = huge_world(swap=1024)
    world.mm.populate(BASE, 512)
    mirror = Mirror(world)
    rt = world.run(
        {"reclaimer": lambda: reclaim_pages(world.mm, BASE, 1), "vp": mirror.fault},
        Script(("reclaimer", "pte.restore"), ("vp", "none")),
    )
    assert "wait.sleep" in labels(rt, "vp")
    assert world.results["vp"] == 0
    assert not mirror.stale()


@pytest.mark.parametrize("advice", ["dontneed", "free"])
def test_huge_page_that_comes_in_the_middle_of_a_walk_does_not_trap_it(advice):
    """Else madvise would go round for ever at a leaf whose first half it has behind it."""
    world = huge_world(named=(VPN + 100,))
    walk = {"dontneed": "pte.zap", "free": "pte.free"}[advice]
    rt = world.run(
        {
            "vp": lambda: store(world.mm, BASE, A),
            "vmm": lambda: madvise(world.mm, BASE, HUGE, advice),
        },
        InTheMiddle(walk),
    )
    assert rt.cut is None
    assert rt.steps < 100
    assert world.mm.ptes.get(VPN) is not None
    assert world.results["vp"] == 0


class InTheMiddle(Script):
    """Lets the walk take its first piece, then the fault happen, then the rest."""

    def __init__(self, label):
        super().__init__(("vmm", label))
        self.label = label

    def pick(self, enabled, current):
        walker = next((i for i, t in enumerate(enabled) if t.name == "vmm"), None)
        other = next((i for i, t in enumerate(enabled) if t.name == "vp"), None)
        first = walker is not None and enabled[walker].op.lo < VPN + 100
        if walker is not None and (
            other is None or enabled[walker].op.label != self.label or first
        ):
            return walker
        return other if other is not None else 0


def test_munmap_during_a_split_loses_nothing_but_its_pages():
    world = huge_world(swap=1024)
    world.mm.populate(BASE, 512)
    world.run(
        {
            "reclaimer": lambda: reclaim_pages(world.mm, BASE, 512),
            "vmm": lambda: munmap(world.mm, BASE, 256 * PAGE),
        },
        Script(("reclaimer", "folio.split"), ("vmm", "none")),
    )
    assert [pte.state for _, _, pte in world.mm.ptes] == [PteState.SWAP]
    assert world.host.nr_free == 4095
    assert not world.host.folios


def test_mprotect_during_a_split_holds_afterwards():
    world = huge_world()
    world.mm.populate(BASE, 512)
    world.run(
        {
            "reclaimer": lambda: reclaim_pages(world.mm, BASE, 512),
            "vmm": lambda: mprotect(world.mm, BASE, 8 * PAGE, "r"),
        },
        Script(("reclaimer", "folio.split"), ("vmm", "none")),
    )
    assert [(n, pte.write) for n, pte in ((hi - lo, p) for lo, hi, p in world.mm.ptes)] == [
        (8, False),
        (504, True),
    ]


# -- pins ------------------------------------------------------------------------------------


def test_pin_keeps_the_folio_whole_but_not_its_leaf_nor_its_mapping():
    world = huge_world(swap=1024)
    Mirror(world)

    async def body():
        got, runs = await pin_user_pages_fast(world.mm, BASE + 3 * PAGE, 1)
        assert got == 1
        pfn = runs[0][0]
        assert (world.host.state(pfn).refs, world.host.state(pfn).pins) == (2, 1)
        assert await reclaim_pages(world.mm, BASE, 512) == 0
        assert await madvise(world.mm, BASE, HUGE, "collapse") == 0  # it is one already
        await mprotect(world.mm, BASE, PAGE, "r")
        assert world.mm.ptes.get(VPN).order == 0
        await munmap(world.mm, BASE, HUGE)
        assert not world.seen("frame.free")
        unpin_user_pages(world.host, runs)
        return world.host.nr_free

    assert run(world, body)[0] == 4095
    assert [args[1:] for args in world.seen("frame.pin")] == [
        args[1:] for args in world.seen("frame.unpin")
    ]


def test_pin_that_comes_during_the_split_lets_it_fail():
    world = huge_world(swap=1024)
    world.mm.populate(BASE, 512)
    Mirror(world)
    world.run(
        {
            "reclaimer": lambda: reclaim_pages(world.mm, BASE, 512),
            "vmm": lambda: pin_user_pages_fast(world.mm, BASE, 1),
        },
        Script(("reclaimer", "pte.migrate"), ("vmm", "none"), ("reclaimer", "none")),
    )
    assert world.results["reclaimer"] == 0
    assert world.results["vmm"][0] == 1
    assert orders(world) == [(0, 512, 0)]
    assert world.host.folio(world.mm.ptes.get(VPN + 9).pfn).order == 9
