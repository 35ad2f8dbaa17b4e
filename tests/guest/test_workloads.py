from collections import Counter

import pytest

from mshv_async.guest import Replay, Sequential, Uniform, Zipf, parse_trace
from mshv_async.hyperv import Access

KINDS = (Sequential, Uniform, Zipf)


def accesses(workload):
    return [workload.at(i) for i in range(workload.accesses)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_accesses_and_another_seed_others(kind):
    """A run is replayed from its seed."""
    first, again = (kind(0x200, 64, 200, seed=7) for _ in range(2))
    assert accesses(first) == accesses(again)
    assert accesses(first) != accesses(kind(0x200, 64, 200, seed=8))


def test_the_sequences_are_the_same_on_every_machine():
    """Recorded digests depend on these numbers."""
    uniform, zipf = Uniform(0, 1000, 5, seed=1), Zipf(0, 1 << 20, 8, seed=1)
    assert [uniform.page(i) for i in range(5)] == [955, 748, 828, 814, 285]
    assert [zipf.page(i) for i in range(8)] == [555682, 27298, 89402, 70240, 31, 10, 0, 100277]


@pytest.mark.parametrize("kind", KINDS)
def test_every_access_is_within_the_pages_of_the_workload(kind):
    gfns = {op.gfn for op in accesses(kind(0x200, 10, 500))}
    assert gfns <= set(range(0x200, 0x20A))
    assert len(gfns) > 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("percent", "least", "most"), [(0, 0, 0), (30, 250, 350), (100, 1000, 1000)]
)
def test_the_share_of_writes_is_what_was_asked_for(kind, percent, least, most):
    found = accesses(kind(0, 64, 1000, writes_percent=percent))
    assert least <= sum(op.access is Access.WRITE for op in found) <= most


def test_sequential_starts_again_after_the_last_page():
    assert [op.gfn for op in accesses(Sequential(5, 3, 7))] == [5, 6, 7, 5, 6, 7, 5]


def test_zipf_favours_low_ranks_as_its_law_says():
    counts = Counter(op.gfn for op in accesses(Zipf(0, 1000, 20_000)))
    assert 1.6 < counts[0] / counts[1] < 2.4
    assert 3.0 < counts[0] / counts[3] < 5.0
    tail = sum(n for page, n in counts.items() if page >= 512)
    assert 0.06 < tail / 20_000 < 0.12  # (H(1000) - H(512)) / H(1000) = 0.089


def test_zipf_without_skew_is_uniform_and_terabytes_cost_nothing():
    flat = Counter(op.gfn // 100 for op in accesses(Zipf(0, 1000, 10_000, skew=0.0)))
    assert all(850 < n < 1150 for n in flat.values())
    assert Zipf(0, 1 << 30, 10).page(3) < 1 << 30


@pytest.mark.parametrize("kind", KINDS)
def test_a_workload_ends_or_goes_on_for_ever(kind):
    ends = kind(0, 4, 3)
    assert (ends.after(2), ends.at(3)) == (3, None)
    assert kind(0, 4, 3, forever=True).after(2) == 0


@pytest.mark.parametrize(
    "fields", [{"pages": 0}, {"accesses": 0}, {"writes_percent": 101}, {"writes_percent": -1}]
)
def test_a_workload_without_sense_is_refused(fields):
    with pytest.raises(ValueError, match=r"workload|share"):
        Sequential(**({"base": 0, "pages": 1, "accesses": 1} | fields))


def test_a_trace_is_replayed_at_its_base():
    trace = parse_trace("r 0\nw 1f\n", "t")
    replay = Replay(trace, 0x200)
    assert [(op.access, op.gfn) for op in (replay.at(0), replay.at(1))] == [
        (Access.READ, 0x200),
        (Access.WRITE, 0x21F),
    ]
    assert replay.at(2) is None
    assert Replay(trace, 0, forever=True).after(1) == 0
