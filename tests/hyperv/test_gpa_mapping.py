import pytest

from mshv_async.hyperv import (
    LARGE_PAGES,
    MAP_LARGE_PAGE,
    MAP_NO_ACCESS,
    MAP_NOT_CACHED,
    MMIO,
    NOACCESS,
    RAM,
    UNMAP_LARGE_PAGE,
    Access,
    HvCall,
    HvStatus,
    Hypervisor,
    PageRun,
    SlatEntry,
)

GFN = 0x200


@pytest.fixture
def hv():
    return Hypervisor()


@pytest.fixture
def partition(hv):
    return hv.create_partition_direct(vps=0, pool=4)


def gpa_map(hv, partition, reps=1, gfn=GFN, flags=0x3, pfn=0x800):
    runs = () if flags & MAP_NO_ACCESS else (PageRun(reps, pfn),)
    return hv.call(HvCall.MAP_GPA, partition.id, reps=reps, gfn=gfn, flags=flags, pfns=runs)


def gpa_unmap(hv, partition, reps=1, gfn=GFN, flags=0):
    return hv.call(HvCall.UNMAP_GPA, partition.id, reps=reps, gfn=gfn, flags=flags)


def test_no_access_is_an_entry_and_unmap_leaves_a_hole(alone, hv, partition):
    """The two decide which intercept the guest gets, and only one of them is served."""
    alone(lambda: gpa_map(hv, partition, flags=MAP_NO_ACCESS))
    assert partition.slat.get(GFN).kind == NOACCESS
    alone(lambda: gpa_unmap(hv, partition))
    assert partition.slat.get(GFN) is None


def test_no_access_needs_no_page_list(alone, hv, partition):
    result = alone(lambda: gpa_map(hv, partition, reps=509, flags=MAP_NO_ACCESS | 0x3))
    assert (result.status, result.done) == (HvStatus.SUCCESS, 509)
    assert len(partition.slat) == 1


def test_a_later_mapping_supersedes_page_and_rights(alone, hv, partition):
    alone(lambda: gpa_map(hv, partition, pfn=0x800, flags=0x3))
    alone(lambda: gpa_map(hv, partition, pfn=0x900, flags=0x1))
    assert partition.slat.get(GFN) == SlatEntry(RAM, 0x900, 0x1)


def test_a_page_list_of_several_runs_lands_in_list_order(alone, hv, partition):
    runs = (PageRun(2, 0x800), PageRun(1, 0x700), PageRun(2, 0x802))
    alone(lambda: hv.call(HvCall.MAP_GPA, partition.id, reps=5, gfn=GFN, flags=0x3, pfns=runs))
    pfns = [partition.slat.get(GFN + i).pfn for i in range(5)]
    assert pfns == [0x800, 0x801, 0x700, 0x802, 0x803]


def test_unmapping_what_is_not_mapped_succeeds_in_silence(alone, hv, partition):
    result = alone(lambda: gpa_unmap(hv, partition, reps=512))
    assert (result.status, result.done) == (HvStatus.SUCCESS, 512)
    assert partition.pool.free == 4


def test_uncached_mappings_are_device_memory(alone, hv, partition):
    alone(lambda: gpa_map(hv, partition, flags=0x3 | MAP_NOT_CACHED))
    assert partition.slat.get(GFN).kind == MMIO


@pytest.mark.parametrize("flags", [0x2, 0x4, 0x8, 0xE, 0x10, 0x1 | 0x40000000])
def test_rights_without_read_and_reserved_flags_are_refused(alone, hv, partition, flags):
    result = alone(lambda: gpa_map(hv, partition, flags=flags))
    assert (result.status, result.done) == (HvStatus.INVALID_PARAMETER, 0)
    assert not partition.slat


@pytest.mark.parametrize(
    ("rights", "allowed"),
    [(0x1, "r"), (0x3, "rw"), (0xD, "rx"), (0xF, "rwx"), (0x0, "")],
)
def test_the_rights_of_an_entry_decide_which_accesses_pass(rights, allowed):
    entry = SlatEntry(RAM, 1, rights)
    letters = zip("rwx", Access, strict=True)
    assert "".join(c for c, access in letters if entry.allows(access)) == allowed


def test_gpas_beyond_the_address_space_are_refused(alone, hv, partition):
    result = alone(lambda: gpa_map(hv, partition, gfn=(1 << 40) - 1, reps=2))
    assert result.status is HvStatus.INVALID_PARAMETER


def test_a_deposited_page_cannot_be_mapped(alone, hv, partition):
    partition.pool.add_frames(0x802, 0x803)
    result = alone(lambda: gpa_map(hv, partition, reps=4, pfn=0x800))
    assert (result.status, result.done) == (HvStatus.OPERATION_DENIED, 2)


def test_a_large_mapping_is_one_element_and_one_run(alone, hv, partition):
    result = alone(
        lambda: gpa_map(hv, partition, reps=2, gfn=0x400, pfn=0x800, flags=0x3 | MAP_LARGE_PAGE)
    )
    assert (result.status, result.done) == (HvStatus.SUCCESS, 2)
    assert list(partition.slat) == [(0x400, 0x800, SlatEntry(RAM, 0x800, 0x3, large=True))]
    assert partition.pool.free == 4


@pytest.mark.parametrize(("gfn", "pfn"), [(0x201, 0x800), (0x200, 0x801)])
def test_a_large_mapping_needs_both_addresses_aligned(alone, hv, partition, gfn, pfn):
    result = alone(lambda: gpa_map(hv, partition, gfn=gfn, pfn=pfn, flags=0x3 | MAP_LARGE_PAGE))
    assert (result.status, result.done) == (HvStatus.INVALID_PARAMETER, 0)
    assert not partition.slat


def test_a_small_change_splits_a_large_page_and_costs_a_table(alone, hv, partition):
    """The other 511 pages keep their rights; without a pool page even NO_ACCESS fails."""
    alone(lambda: gpa_map(hv, partition, flags=0x3 | MAP_LARGE_PAGE))
    alone(lambda: gpa_map(hv, partition, gfn=GFN + 8, flags=MAP_NO_ACCESS))
    assert partition.pool.free == 3
    assert partition.slat.get(GFN + 8).kind == NOACCESS
    assert partition.slat.get(GFN) == SlatEntry(RAM, 0x800, 0x3)
    assert partition.slat.get(GFN + 511) == SlatEntry(RAM, 0x800 + 511, 0x3)


@pytest.mark.parametrize("call", [gpa_map, gpa_unmap])
def test_splitting_a_large_page_without_a_pool_page_fails_and_changes_nothing(alone, call):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0, pool=0)
    partition.map_direct(GFN, LARGE_PAGES, SlatEntry(RAM, 0x800, 0x3, large=True))
    before = list(partition.slat)
    flags = MAP_NO_ACCESS if call is gpa_map else 0
    result = alone(lambda: call(hv, partition, gfn=GFN + 1, flags=flags))
    assert (result.status, result.done) == (HvStatus.INSUFFICIENT_MEMORY, 0)
    assert list(partition.slat) == before


def test_a_large_mapping_over_small_entries_frees_their_table(alone, hv, partition):
    alone(lambda: gpa_map(hv, partition, reps=3))
    assert partition.pool.free == 3
    alone(lambda: gpa_map(hv, partition, flags=0x3 | MAP_LARGE_PAGE))
    assert partition.pool.free == 4


def test_unmap_large_removes_small_entries_too(alone, hv, partition):
    alone(lambda: gpa_map(hv, partition, reps=3))
    result = alone(lambda: gpa_unmap(hv, partition, flags=UNMAP_LARGE_PAGE))
    assert (result.status, result.done) == (HvStatus.SUCCESS, 1)
    assert not partition.slat
    assert partition.pool.free == 4


def test_device_memory_is_mapped_by_large_pages_too(alone, hv, partition):
    """Device pages lie above RAM; their rights are those asked for."""
    flags = 0x3 | MAP_NOT_CACHED | MAP_LARGE_PAGE
    alone(lambda: gpa_map(hv, partition, reps=2, pfn=0x4000_0000, flags=flags))
    assert partition.slat.get(GFN + 1023) == SlatEntry(MMIO, 0x4000_0000 + 1023, 0x3, large=True)
    alone(lambda: gpa_unmap(hv, partition, gfn=GFN + 1))
    assert partition.slat.get(GFN + 2) == SlatEntry(MMIO, 0x4000_0002, 0x3)


def test_a_large_call_counts_in_large_pages(alone, hv, partition):
    """Who takes the count for 4 KiB pages rolls back too little, or is refused (bugs.md E01)."""
    partition.pool.add_frames(0x800 + 0x400, 0x800 + 0x401)
    result = alone(lambda: gpa_map(hv, partition, reps=4, flags=0x3 | MAP_LARGE_PAGE))
    assert (result.status, result.done) == (HvStatus.OPERATION_DENIED, 2)
    assert partition.slat.total(0, 1 << 40) == 1024


def test_a_large_no_access_over_small_entries_frees_their_table(alone, hv, partition):
    alone(lambda: gpa_map(hv, partition, reps=3))
    alone(lambda: gpa_map(hv, partition, flags=MAP_NO_ACCESS | MAP_LARGE_PAGE))
    assert partition.pool.free == 4
    assert partition.slat.get(GFN + 511).kind == NOACCESS


def test_the_calls_are_told_before_their_first_element(threads):
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0, pool=4)
    facts = []

    def watch(rt):
        rt.watch("hypercall.issued", lambda p, r: facts.append((p, r.code, r.reps, len(p.slat))))

    async def vmm():
        await gpa_map(hv, partition, reps=3)
        await gpa_unmap(hv, partition, reps=3)

    threads({"vmm": vmm}, set_up=watch)
    assert facts == [(partition, HvCall.MAP_GPA, 3, 0), (partition, HvCall.UNMAP_GPA, 3, 1)]


def test_four_tebibytes_of_no_access_cost_as_little_as_four_mebibytes(hv):
    """Set-up must not grow with the guest."""
    partition = hv.create_partition_direct(vps=0)
    partition.no_access_direct(GFN, (4 << 40) >> 12)
    assert len(partition.slat) == 1
    assert len(partition.space.tables) == 1
    assert partition.pool.free == 0
    assert partition.slat.get(GFN + (1 << 29)).kind == NOACCESS
