"""Elements are grouped into one step where nobody can tell; here somebody tries to tell."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mshv_async.hyperv import LARGE_PAGES, HvStatus, SlatEntry, SlatRules
from mshv_async.hyperv.gpa_space import GpaSpace
from mshv_async.hyperv.pool import Pool

BLOCKS = 3
KINDS = ("map", "map_other", "noaccess", "unmap", "map_large", "unmap_large")
operations = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.one_of(
            st.integers(0, BLOCKS * LARGE_PAGES - 1),
            st.sampled_from([block * LARGE_PAGES for block in range(BLOCKS)]),
        ),
        st.one_of(st.integers(1, 700), st.sampled_from([LARGE_PAGES, 2 * LARGE_PAGES])),
    ),
    max_size=6,
)
rules = st.builds(
    SlatRules,
    split=st.sampled_from(["page", "free", "refused"]),
    large_over_small=st.sampled_from(["replaced", "refused"]),
    no_access_tables=st.booleans(),
    unmap_large_over_small=st.sampled_from(["removed", "refused"]),
    promotion=st.booleans(),
    adjustable=st.sampled_from(["stored", "enforced"]),
).filter(lambda r: not (r.promotion and r.split == "refused"))


def act(space, kind, lo, hi):
    """Do one operation; return how many pages were done, and why no more."""
    if kind.endswith("large"):
        lo, hi = lo - lo % LARGE_PAGES, lo - lo % LARGE_PAGES + LARGE_PAGES
        if kind == "map_large":
            return space.map_large(lo, hi, SlatEntry("ram", lo + 0x8000, 3, large=True))
        return space.unmap_large(lo, hi)
    if kind == "unmap":
        return space.unmap(lo, hi)
    entries = {
        "map": SlatEntry("ram", lo + 0x4000, 3, adjustable=True),
        "map_other": SlatEntry("ram", lo + 0x8000, 1),
        "noaccess": SlatEntry("noaccess", 0, 0),
    }
    return space.map(lo, hi, entries[kind])


def act_singly(space, kind, lo, hi):
    """Do the same one element after the other."""
    done = 0
    while lo + done < hi:
        pages, status = act(space, kind, lo + done, lo + done + 1)
        done += pages
        if status is not HvStatus.SUCCESS:
            return done, status
    return done, HvStatus.SUCCESS


def new_space(pages, rules):
    pool = Pool("pool")
    pool.add(pages)
    return GpaSpace("partition", pool, rules=rules)


def paid_tables(space):
    return sum(hi - lo for lo, hi, paid in space.tables if paid)


def compare(ops, pages, rules):
    grouped, single = new_space(pages, rules), new_space(pages, rules)
    for kind, lo, length in ops:
        hi = min(lo + length, BLOCKS * LARGE_PAGES)
        each = act if kind.endswith("large") else act_singly
        assert act(grouped, kind, lo, hi) == each(single, kind, lo, hi)
        assert list(grouped.slat) == list(single.slat)
        assert list(grouped.tables) == list(single.tables)
        assert grouped.pool.used == single.pool.used == paid_tables(grouped)


@settings(deadline=None, max_examples=100)
@given(operations, st.integers(0, BLOCKS))
def test_grouped_elements_do_what_single_ones_do(ops, pages):
    """Table, pool, reps done and status must not tell the grouping."""
    compare(ops, pages, SlatRules())


@settings(deadline=None, max_examples=200)
@given(operations, st.integers(0, BLOCKS), rules)
def test_grouping_cannot_be_told_under_any_rules(ops, pages, rules):
    compare(ops, pages, rules)
