"""A bisection names the patches that decide, and no others."""

import os
from itertools import combinations

import pytest

from mshv_async.driver import DriverError, resolve_driver
from mshv_async.driver.between import backports, mends, profile_path, stacked
from mshv_async.driver.select import PATCHES
from mshv_async.explore.bisecting import BisectError, bisect, ddmin
from mshv_async.explore.bisecting_text import bisection_text
from mshv_async.scenario import Scenario, list_scenarios


def search(scenario, good, bad, **options):
    options = {"strategy": "pct", "schedules": 25} | options
    return bisect(Scenario.load(scenario), good, bad, **options)


@pytest.mark.parametrize(
    ("scenario", "good", "bad", "neighbours", "decides"),
    [
        # the fix is a change of the next profile, and a patch backports it
        ("unmap-during-fault", "v7", "v6", ("v6", "v7"), {"region-refcount": "good"}),
        ("write-to-read-only-region", "fix1", "v6", ("v9", "fix1"), {"check-access": "good"}),
        # the patch is on the good driver
        (
            "write-to-read-only-region",
            "v9+killable-retry+check-access+unlock-on-failure",
            "v9+killable-retry",
            ("v9+killable-retry", "v9+killable-retry+check-access+unlock-on-failure"),
            {"check-access": "good"},
        ),
        # two are needed
        (
            "gigantic-page",
            "v9+unlock-on-failure+aligned-stride+huge-order-stride",
            "v9",
            ("v9", "v9+unlock-on-failure+aligned-stride+huge-order-stride"),
            {"aligned-stride": "good", "huge-order-stride": "good"},
        ),
        # the newer profile brought the bug, and no backport of it shows why
        ("misaligned-huge-pages", "v6", "v7", ("v7", "v6"), {"aligned-stride": "neither"}),
    ],
    ids=["v6-v7", "v9-fix1", "stack", "two-patches", "regression"],
)
def test_the_patches_that_decide_are_named(scenario, good, bad, neighbours, decides):
    found = search(f"bugs/{scenario}", good, bad)
    assert found.neighbours == neighbours
    assert {change.patch: change.present_in for change in found.patches} == decides
    judged = {said.driver: said.good for said in found.judged}
    assert (judged[good], judged[bad]) == (True, False)
    assert found.on in judged
    text = bisection_text(found)
    assert f"decides: {' + '.join(decides)}" in text
    assert f"{found.on} is {'good' if judged[found.on] else 'bad'}" in text


CLEAN = ("clean",)
MENDED = [
    entry
    for entry in list_scenarios()
    if entry.name.startswith("bugs/")
    and Scenario.load(entry.name).expected("v6") != CLEAN
    and Scenario.load(entry.name).expected("fix1") == CLEAN
]


@pytest.mark.skipif("MSHV_ASYNC_LONG" not in os.environ, reason="takes half a minute")
@pytest.mark.parametrize("entry", MENDED, ids=lambda entry: entry.name)
def test_each_bug_that_fix1_mended_is_put_down_to_its_patch(entry):
    found = search(entry.name, "fix1", "v6", strategy="portfolio", schedules=150)
    [change] = found.patches
    assert set(PATCHES[change.patch].bugs) & set(entry.bugs)


def test_one_verdict_can_be_followed_past_another_failure():
    name = "bugs/callback-map-failure"
    with pytest.raises(
        BisectError, match=r"--good fix1: found invariant:stale-mapping.* --verdict"
    ):
        search(name, "fix1", "v9")
    found = search(name, "fix1", "v9", verdict="lost-unlock")
    assert [change.patch for change in found.patches] == ["unlock-on-failure"]


@pytest.mark.parametrize(
    ("good", "bad", "options", "said"),
    [
        ("v7", "fix1", {}, r"--bad fix1: clean in 25 schedules; nothing to bisect"),
        ("v6", "v6", {}, "the same driver"),
        ("v9+check-access+unlock-on-failure", "v9+unlock-on-failure+check-access", {}, "the same"),
        ("mine.py:Mine", "v6", {}, r"--good mine\.py:Mine: allowed: a profile"),
        ("v7", "v6", {"verdict": "wrong"}, "--verdict: found 'wrong'; allowed: oops"),
    ],
    ids=["bad-is-good", "same", "same-patches", "user-file", "verdict"],
)
def test_two_drivers_without_anything_between_are_refused(good, bad, options, said):
    with pytest.raises(BisectError, match=said):
        search("bugs/unmap-during-fault", good, bad, **options)


def test_a_driver_that_does_not_exist_is_refused_before_anything_runs():
    with pytest.raises(DriverError, match="v66"):
        search("bugs/unmap-during-fault", "v7", "v66")


def test_the_same_search_says_the_same():
    first, again = (search("bugs/gigantic-page", "v6", "v7", schedules=5) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("needed", [{0}, {5}, {2, 7}, {0, 3, 6}, {0, 1, 2, 3, 4, 5, 6, 7}])
def test_ddmin_finds_exactly_what_is_needed(needed):
    items = [str(i) for i in range(8)]
    tried = []

    def works(some):
        tried.append(tuple(some))
        return {str(i) for i in needed} <= set(some)

    assert {int(x) for x in ddmin(items, works)} == needed
    assert () not in tried


def test_ddmin_leaves_nothing_that_can_be_missed_where_parts_do_not_go_together():
    # "b" works alone and "a" with "c", but "a" and "b" do not go together.
    def works(some):
        chosen = set(some)
        return chosen in ({"a", "c"}, {"a", "b", "c", "d"}, {"a", "c", "d"})

    least = ddmin(["a", "b", "c", "d"], works)
    assert works(least)
    assert not any(works(rest) for rest in combinations(least, len(least) - 1))


def test_backports_between_neighbours_are_what_the_newer_profile_holds():
    assert profile_path("v6", "fix1") == ["v6", "v7", "v9", "fix1"]
    assert profile_path("v9", "v7") == ["v9", "v7"]
    assert backports("v6", "v7") == ["per-chunk-stride", "region-refcount"]
    assert backports("v7", "v9") == ["interval-overlap"]
    assert "aligned-stride" in mends("v6", "v7")
    held = backports("v9", "fix1")
    assert {"A01", "A07", "C01", "D07"} <= {b for name in held for b in PATCHES[name].bugs}
    assert stacked("v9", held) is not None, "together they are what fix1 is"


def test_patches_that_do_not_go_together_make_no_driver():
    with pytest.raises(DriverError):
        resolve_driver("v9+contiguous-stride")
    assert stacked("v9", ["contiguous-stride"]) is None
    both = stacked("v9", ["contiguous-stride", "aligned-stride"])
    assert both is not None
    assert both.patches == ("aligned-stride", "contiguous-stride")
