"""The tables of spec.md 3.2 and 3.3: what each kind of page gives, and which errno."""

from __future__ import annotations

from errno import EFAULT, EPERM

import pytest
from host_toys import BASE, PAGE, VPN, Mirror, World

from mshv_async.host import (
    HMM_PFN_REQ_FAULT,
    HMM_PFN_REQ_WRITE,
    ZERO_PFN,
    HmmPfn,
    HmmPfns,
    HmmRange,
    Mm,
    Pte,
    PteState,
    hmm_range_fault,
    mmap_read_lock,
    mmap_read_unlock,
    mmu_interval_read_begin,
    touch,
)
from mshv_async.sim import Injection

READ = HMM_PFN_REQ_FAULT
WRITE = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE
SNAPSHOT = 0


def ask(world, flags, pages=None, **options):
    """Run one hmm_range_fault over the VMA; return its result and the words."""
    mirror = Mirror(world, 0, pages or world.pages)
    pfns = HmmPfns(mirror.pages)

    async def body():
        request = HmmRange(mirror.mni, BASE, BASE + mirror.pages * PAGE, pfns, flags)
        request.notifier_seq = await mmu_interval_read_begin(mirror.mni)
        await mmap_read_lock(world.mm)
        ret = await hmm_range_fault(request)
        await mmap_read_unlock(world.mm)
        return ret

    world.run({"vp": body}, **options)
    return world.results["vp"], pfns


def with_entry(pte, prot="rw", flags=()):
    world = World(1)
    if prot != "rw" or flags:
        world.mm = Mm(world.host, "mm1")
        world.mm.add_vma(BASE, PAGE, prot, flags)
    if pte is not None and pte.owns_frame:
        world.mm.install(VPN, world.host.take(1), write=pte.write)
        pte = Pte(pte.state, world.mm.ptes.get(VPN).pfn, pte.write)
    if pte is not None:
        world.mm.ptes.set(VPN, VPN + 1, pte)
    return world


HOLE = None
READ_ONLY = Pte(PteState.PRESENT)
WRITABLE = Pte(PteState.PRESENT, write=True)
ZERO = Pte(PteState.ZERO)
POISON = Pte(PteState.HWPOISON)
SPECIAL = Pte(PteState.SPECIAL, 7)
PROTNONE = Pte(PteState.PROTNONE)


@pytest.mark.parametrize(
    ("pte", "flags", "expected"),
    [
        (HOLE, SNAPSHOT, "-"),
        (HOLE, READ, "valid"),
        (HOLE, WRITE, "valid write"),
        (READ_ONLY, SNAPSHOT, "valid"),
        (READ_ONLY, READ, "valid"),
        (READ_ONLY, WRITE, "valid write"),
        (WRITABLE, SNAPSHOT, "valid write"),
        (WRITABLE, WRITE, "valid write"),
        (ZERO, SNAPSHOT, "valid"),
        (ZERO, READ, "valid"),
        (ZERO, WRITE, "valid write"),
        (PROTNONE, SNAPSHOT, "-"),
        (PROTNONE, READ, "valid write"),
        (POISON, SNAPSHOT, "-"),
        (POISON, READ, -EFAULT),
        (SPECIAL, SNAPSHOT, "error"),
        (SPECIAL, WRITE, -EFAULT),
    ],
)
def test_each_entry_gives_what_the_walk_table_says(pte, flags, expected):
    world = with_entry(pte)
    if pte == ZERO and flags == WRITE:
        # The break of the zero page is an event of its own: this walk ends, the next succeeds.
        mirror = Mirror(world)
        world.run({"vp": mirror.fault})
        assert mirror.retries == 1
        assert mirror.table.get(VPN).writable
        return
    ret, pfns = ask(world, flags)
    if isinstance(expected, int):
        assert ret == expected
        return
    assert ret == 0
    word = pfns.get(0)
    names = {
        "-": word is None,
        "valid": word is not None and word.valid and not word.writable,
        "valid write": word is not None and word.valid and word.writable,
        "error": word is not None and word.error and not word.valid,
    }
    assert names[expected], word


@pytest.mark.parametrize(
    ("prot", "vma_flags", "flags", "expected"),
    [
        ("none", (), READ, -EFAULT),
        ("none", (), SNAPSHOT, "error"),
        ("rw", ("PFNMAP",), READ, -EFAULT),
        ("rw", ("IO",), SNAPSHOT, "error"),
        ("r", (), WRITE, -EPERM),
        ("r", (), READ, "valid"),
    ],
)
def test_each_vma_gives_what_the_walk_table_says(prot, vma_flags, flags, expected):
    ret, pfns = ask(with_entry(None, prot, vma_flags), flags)
    if isinstance(expected, int):
        assert ret == expected
    else:
        assert ret == 0
        assert pfns.get(0).error == (expected == "error")


def test_write_to_a_readonly_vma_is_refused_only_where_a_fault_is_needed():
    """An entry that is writable already is delivered whatever the VMA says."""
    assert ask(with_entry(WRITABLE, "r"), WRITE)[0] == 0
    assert ask(with_entry(READ_ONLY, "r"), WRITE)[0] == -EPERM


def test_one_gap_fails_the_whole_range():
    world = World(2)
    assert ask(world, READ, pages=3)[0] == -EFAULT
    assert not world.host.rmap, "a read fault maps the zero page, which has no reverse map"


def test_snapshot_over_a_gap_marks_it_as_error():
    world = World(2)
    world.mm.populate(BASE, 1)
    ret, pfns = ask(world, SNAPSHOT, pages=3)
    assert ret == 0
    assert [pfns.get(i) and pfns.get(i).flags >> 61 for i in range(3)] == [6, None, 1]


def test_mask_lets_each_word_ask_for_itself():
    world = World(2)
    mirror = Mirror(world)
    pfns = HmmPfns(2)
    pfns.set(1, 2, HmmPfn(WRITE))

    async def body():
        request = HmmRange(mirror.mni, BASE, BASE + 2 * PAGE, pfns, pfn_flags_mask=WRITE)
        request.notifier_seq = await mmu_interval_read_begin(mirror.mni)
        await mmap_read_lock(world.mm)
        ret = await hmm_range_fault(request)
        await mmap_read_unlock(world.mm)
        return ret

    world.run({"vp": body})
    assert world.results["vp"] == 0
    assert pfns.get(0) is None
    assert pfns.get(1).writable


@pytest.mark.parametrize("kind", ["SIGBUS", "OOM", "HWPOISON"])
def test_failing_fault_handler_is_efault(kind):
    failure = Injection("fault", status=kind, force=True)
    assert ask(World(1), WRITE, injections=(failure,))[0] == -EFAULT


def test_walk_of_a_window_takes_steps_by_runs_not_by_pages():
    """512 pages nobody names are one fault: exploration would drown in 512."""
    world = World(512, memory=1024, named=())
    mirror = Mirror(world)
    rt = world.run({"vp": mirror.fault})
    assert world.results["vp"] == 0
    assert len(mirror.table) == 1
    assert rt.steps < 25


def test_huge_address_space_costs_nothing_until_touched():
    world = World(1 << 30, memory=1 << 31, named=())
    world.run({"vmm": lambda: touch(world.mm, BASE + (1 << 41))})
    assert world.results["vmm"] == 0
    assert len(world.mm.ptes) == 1
    assert world.mm.ptes.get(VPN + (1 << 29)).pfn == ZERO_PFN


def test_named_page_is_a_step_of_its_own():
    world = World(8, named=(VPN + 3,))
    world.mm.populate(BASE, 8)
    mirror = Mirror(world)
    rt = world.run({"vp": mirror.fault})
    walks = [(op.lo - VPN, op.hi - VPN) for _, op in rt.trace if op.label == "hmm.walk"]
    assert walks == [(0, 3), (3, 4), (4, 8)]


def test_no_reference_is_taken():
    world = World(1)
    ask(world, WRITE)
    assert world.host.state(world.mm.ptes.get(VPN).pfn).refs == 1


def test_walker_waits_for_a_migration_entry():
    world = World(1)
    world.mm.populate(BASE, 1)
    entry = world.mm.ptes.get(VPN)
    world.mm.ptes.set(VPN, VPN + 1, Pte(PteState.MIGRATION, entry.pfn))
    mirror = Mirror(world)

    async def restore():
        world.mm.ptes.set(VPN, VPN + 1, entry)
        world.host.migration_wait.wake_all()

    world.run({"vp": mirror.fault, "compaction": restore})
    assert world.results["vp"] == 0
    assert not mirror.stale()
