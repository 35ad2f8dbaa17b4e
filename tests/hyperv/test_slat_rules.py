"""What no source establishes about the table: both settings of each switch (spec.md 5.4)."""

import pytest

from mshv_async.hyperv import (
    LARGE_PAGES,
    MAP_ADJUSTABLE,
    MAP_LARGE_PAGE,
    MAP_NO_ACCESS,
    RAM,
    UNMAP_LARGE_PAGE,
    HvCall,
    HvStatus,
    Hypervisor,
    PageRun,
    SlatEntry,
    SlatRules,
)

GFN = 0x200
RW = 0x3
LARGE_RW = RW | MAP_LARGE_PAGE


class Table:
    """A partition with four pool pages, and the two calls that change its table."""

    def __init__(self, alone, pool=4, **rules):
        self.alone = alone
        self.hv = Hypervisor(slat_rules=SlatRules(**rules))
        self.partition = self.hv.create_partition_direct(vps=0, pool=pool)
        self.slat = self.partition.slat

    @property
    def free(self):
        return self.partition.pool.free

    def map(self, reps=1, gfn=GFN, flags=RW, pfn=0x800):
        runs = () if flags & MAP_NO_ACCESS else (PageRun(reps, pfn),)
        return self._call(HvCall.MAP_GPA, reps, gfn, flags, runs)

    def unmap(self, reps=1, gfn=GFN, flags=0):
        return self._call(HvCall.UNMAP_GPA, reps, gfn, flags, ())

    def _call(self, code, reps, gfn, flags, runs):
        result = self.alone(
            lambda: self.hv.call(
                code, self.partition.id, reps=reps, gfn=gfn, flags=flags, pfns=runs
            )
        )
        return result.status, result.done


@pytest.fixture
def table(alone):
    return lambda **rules: Table(alone, **rules)


DONE = HvStatus.SUCCESS
DENIED = (HvStatus.OPERATION_DENIED, 0)


@pytest.mark.parametrize("change", ["no-access", "other page", "unmap"])
@pytest.mark.parametrize(("split", "free"), [("page", 3), ("free", 4)])
def test_a_small_change_in_a_large_entry_splits_it_for_a_page_or_for_nothing(
    table, change, split, free
):
    t = table(split=split)
    t.map(flags=LARGE_RW)
    if change == "unmap":
        assert t.unmap(gfn=GFN + 8) == (DONE, 1)
    else:
        flags = MAP_NO_ACCESS if change == "no-access" else RW
        assert t.map(gfn=GFN + 8, flags=flags, pfn=0x40) == (DONE, 1)
    assert t.free == free
    assert t.slat.get(GFN + 9) == SlatEntry(RAM, 0x809, RW)
    assert t.unmap(reps=512) == (DONE, 512)
    assert t.free == 4


@pytest.mark.parametrize("change", [Table.map, Table.unmap])
def test_a_hypervisor_may_refuse_to_split(table, change):
    t = table(split="refused")
    t.map(flags=LARGE_RW)
    before = list(t.slat)
    assert change(t, gfn=GFN + 8) == DENIED
    assert list(t.slat) == before
    assert t.unmap(flags=UNMAP_LARGE_PAGE) == (DONE, 1)


def test_a_refused_split_counts_the_elements_before_it(table):
    t = table(split="refused")
    t.map(gfn=GFN + 512, flags=LARGE_RW)
    assert t.map(reps=5, gfn=GFN + 509, flags=MAP_NO_ACCESS) == (HvStatus.OPERATION_DENIED, 3)


@pytest.mark.parametrize("flags", [LARGE_RW, MAP_NO_ACCESS | MAP_LARGE_PAGE])
def test_a_large_map_over_small_entries_replaces_them_or_is_refused(table, flags):
    t = table()
    t.map(reps=3)
    assert t.map(flags=flags) == (DONE, 1)
    assert (len(t.slat), t.free) == (1, 4)

    t = table(large_over_small="refused")
    t.map(reps=3, gfn=GFN + 512)
    before = t.slat.runs(GFN + 512, GFN + 1024)
    assert t.map(reps=2, flags=flags) == (HvStatus.OPERATION_DENIED, 1)
    assert t.slat.runs(GFN + 512, GFN + 1024) == before


@pytest.mark.parametrize("status", ["INVALID_PARAMETER", "INVALID_ALIGNMENT"])
def test_misaligned_large_elements_fail_with_the_status_of_the_rules(table, status):
    """Both become -EINVAL since October 2025; before, one was -EIO."""
    t = table(misaligned_large=status)
    refused = (HvStatus[status], 0)
    assert t.map(gfn=GFN + 1, flags=LARGE_RW) == refused
    assert t.map(pfn=0x801, flags=LARGE_RW) == refused
    assert t.map(gfn=GFN + 1, flags=MAP_NO_ACCESS | MAP_LARGE_PAGE) == refused
    assert t.unmap(gfn=GFN + 1, flags=UNMAP_LARGE_PAGE) == refused
    assert not t.slat


@pytest.mark.parametrize(("charged", "free"), [(True, 2), (False, 4)])
def test_the_first_no_access_costs_tables_or_waits_for_a_mapping(table, charged, free):
    t = table(no_access_tables=charged)
    assert t.map(reps=4, gfn=GFN + 510, flags=MAP_NO_ACCESS) == (DONE, 4)
    assert t.free == free
    t.map(gfn=GFN + 510)
    assert t.free == min(free, 3)
    t.unmap(reps=512)
    t.unmap(reps=512, gfn=GFN + 512)
    assert t.free == 4


@pytest.mark.parametrize("charged", [True, False])
def test_a_large_no_access_costs_no_table_and_a_small_one_inside_splits_it(table, charged):
    t = table(no_access_tables=charged)
    assert t.map(reps=2, flags=MAP_NO_ACCESS | MAP_LARGE_PAGE) == (DONE, 2)
    assert t.free == 4
    t.map(gfn=GFN + 1, flags=MAP_NO_ACCESS)
    assert t.free == 3


def test_set_up_pays_for_no_access_by_the_same_rule():
    hv = Hypervisor(slat_rules=SlatRules(no_access_tables=False))
    partition = hv.create_partition_direct(vps=0, pool=1)
    partition.no_access_direct(GFN, 2000)
    assert partition.pool.deposited == 208 + 1
    assert not partition.space.tables


def test_a_large_unmap_removes_small_entries_or_is_refused(table):
    t = table()
    t.map(reps=3)
    assert t.unmap(flags=UNMAP_LARGE_PAGE) == (DONE, 1)
    assert (len(t.slat), t.free) == (0, 4)

    t = table(unmap_large_over_small="refused")
    t.map(flags=LARGE_RW)
    t.map(reps=3, gfn=GFN + 512)
    assert t.unmap(reps=2, flags=UNMAP_LARGE_PAGE) == (HvStatus.OPERATION_DENIED, 1)
    assert t.slat.total(GFN, GFN + 1024) == 3


@pytest.mark.parametrize("promotion", [False, True])
def test_small_mappings_that_fill_two_mebibytes_may_be_promoted(table, promotion):
    t = table(promotion=promotion)
    t.map(reps=500)
    assert t.free == 3
    t.map(reps=12, gfn=GFN + 500, pfn=0x800 + 500)
    assert t.slat.get(GFN) == SlatEntry(RAM, 0x800, RW, large=promotion)
    assert t.free == (4 if promotion else 3)


@pytest.mark.parametrize(
    ("pfn", "flags"), [(0x801, RW), (0x800, 0x1), (0x800, MAP_NO_ACCESS)], ids=str
)
def test_unlike_or_misaligned_mappings_are_not_promoted(table, pfn, flags):
    t = table(promotion=True)
    t.map(reps=500, pfn=pfn)
    t.map(reps=12, gfn=GFN + 500, pfn=pfn + 500, flags=flags)
    assert not any(entry.large for _, _, entry in t.slat)
    assert t.free == 3


def test_a_promoted_entry_is_split_again_and_then_costs_a_page(table):
    """Memory that was enough to map all pages is too little to take one of them away."""
    t = table(promotion=True, pool=1)
    t.map(reps=509)
    t.map(reps=3, gfn=GFN + 509, pfn=0x800 + 509)
    assert t.free == 1
    t.map(gfn=GFN + 0x400)
    assert t.map(flags=MAP_NO_ACCESS) == (HvStatus.INSUFFICIENT_MEMORY, 0)


@pytest.mark.parametrize("flags", [0x1, MAP_NO_ACCESS])
def test_rights_of_an_entry_that_is_not_adjustable_may_be_fixed(table, flags):
    t = table(adjustable="enforced")
    t.map()
    assert t.map(flags=flags) == DENIED
    assert t.map(pfn=0x900) == (DONE, 1)  # the same rights, another page
    assert t.unmap() == (DONE, 1)
    assert t.map(flags=flags) == (DONE, 1)


@pytest.mark.parametrize("adjustable", ["stored", "enforced"])
def test_rights_of_an_adjustable_entry_can_always_be_changed(table, adjustable):
    t = table(adjustable=adjustable)
    t.map(flags=RW | MAP_ADJUSTABLE)
    assert t.slat.get(GFN).adjustable
    assert t.map(flags=MAP_NO_ACCESS) == (DONE, 1)


def test_the_adjustable_flag_has_no_effect_by_default(table):
    t = table()
    t.map()
    assert t.map(flags=MAP_NO_ACCESS) == (DONE, 1)


def test_a_large_map_over_fixed_rights_is_refused(table):
    t = table(adjustable="enforced")
    t.map(gfn=GFN + 5, pfn=0x805)
    assert t.map(flags=0x1 | MAP_LARGE_PAGE) == DENIED
    assert t.map(flags=LARGE_RW) == (DONE, 1)


@pytest.mark.parametrize(
    "rules", [{"split": "merge"}, {"promotion": "yes"}, {"promotion": True, "split": "refused"}]
)
def test_rules_that_there_are_not_are_refused(rules):
    with pytest.raises(ValueError, match=r"slat_rules\.(split|promotion)"):
        Hypervisor(slat_rules=SlatRules(**rules))


def test_the_defaults_are_those_that_the_specification_proposes():
    assert SlatRules() == (
        "page", "replaced", "INVALID_PARAMETER", True, "removed", False, "stored", "flushed",
    )  # fmt: skip
    assert LARGE_PAGES == 512
