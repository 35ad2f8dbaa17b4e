"""What a campaign tells of the schedules that it has run, and of those that it has not."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import mshv_async
from mshv_async.explore import campaign as campaigns
from mshv_async.explore import coverage as coverages
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.catalogue import STRATEGIES, samples
from mshv_async.explore.coverage import (
    ALL_UNTIL,
    LOOK_EVERY,
    PAIRS_MAX,
    Coverage,
    excluded_probability,
)
from mshv_async.explore.drivers import driver_spec
from mshv_async.explore.estimate import Estimate, estimate_tree, rounded
from mshv_async.explore.outcome import campaign_outcome
from mshv_async.explore.playing import Subject
from mshv_async.explore.store import Store
from mshv_async.explore.summary import share
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage
from mshv_async.sim.orders import ordered_pairs
from mshv_async.sim.strategies import RandomWalk
from mshv_async.sim.strategies.portfolio import CYCLE

REFERENCE = Path(mshv_async.__file__).parent / "reference" / "sampling.md"
PAGE = Scenario.load("litmus/one-page")
ACCESS = Scenario.load("litmus/one-access")


def pair(number):
    return "cell", "a", f"label{number}", "b", "label"


def outcome_of(strategy="random", schedules=40, scenario=PAGE, driver="fix1", **options):
    result = explore_sync(scenario, driver, strategy=strategy, schedules=schedules, **options)
    return campaign_outcome(
        result, scenario=scenario.name, driver=driver, strategy=strategy, seed=1,
        expected=["clean"],
    )  # fmt: skip


def test_the_pairs_of_a_campaign_are_those_of_its_executions():
    seen = set()

    async def act(stage):
        subject, strategy = Subject(PAGE, driver_spec("fix1")), RandomWalk(1)
        for number in range(40):
            strategy.begin(number)
            seen.update(ordered_pairs(await subject.play(stage, strategy)))

    run_on_stage(act)
    result = explore_sync(PAGE, "fix1", strategy="random", schedules=40)
    assert set(result.coverage.first) == seen
    assert seen


def test_a_pair_belongs_to_the_first_schedule_in_whatever_order_parts_are_merged():
    one, other = Coverage(), Coverage()
    one.add(pair(1), 7)
    one.add(pair(2), 9)
    other.add(pair(1), 3)
    other.latest = 12
    there, back = Coverage(), Coverage()
    for part in (one, other):
        there.merge(part)
    for part in (other, one):
        back.merge(part)
    assert there.first == back.first == {pair(1): 3, pair(2): 9}
    assert there.latest == back.latest == 12


def test_what_is_new_is_counted_by_the_numbers_of_schedules():
    coverage = Coverage(latest=5_000)
    for number, schedule in enumerate((1, 4_000, 4_001, 5_000)):
        coverage.add(pair(number), schedule)
    assert coverage.new_in_last(1_000) == 2
    assert "4 ordered pairs" in coverage.line()
    assert coverage.line().endswith("2 new in the last 1,000 schedules")


def test_both_orders_count_as_two_pairs_that_were_seen_reversed():
    coverage = Coverage()
    coverage.add(("cell", "a", "x", "b", "y"), 1)
    coverage.add(("cell", "a", "x", "b", "z"), 1)
    assert coverage.object() == {"pairs": 2, "both_orders": 0, "new_in_last_1000": 2}
    coverage.add(("cell", "b", "y", "a", "x"), 2)
    assert coverage.object() == {"pairs": 3, "both_orders": 2, "new_in_last_1000": 3}


def test_late_schedules_are_looked_at_by_their_number(monkeypatch):
    looked = []
    coverage = Coverage()
    monkeypatch.setattr(coverages, "ordered_pairs", lambda rt: looked.append(rt) or {})
    for schedule in range(ALL_UNTIL - 2, ALL_UNTIL + 3 * LOOK_EVERY):
        coverage.update(schedule, schedule)
    late = [schedule for schedule in looked if schedule > ALL_UNTIL]
    assert looked[:3] == [ALL_UNTIL - 2, ALL_UNTIL - 1, ALL_UNTIL]
    assert late
    assert all(schedule % LOOK_EVERY == 0 for schedule in late)


def test_there_is_a_limit_on_pairs(monkeypatch):
    assert PAIRS_MAX > 10_000
    monkeypatch.setattr(coverages, "PAIRS_MAX", 2)
    coverage = Coverage()
    for number in range(5):
        coverage.add(pair(number), 1)
    assert coverage.pairs == 2


def test_workers_and_stores_come_to_the_same_coverage(tmp_path):
    alone = explore_sync(PAGE, "fix1", schedules=120).coverage
    shared = explore_sync(PAGE, "fix1", schedules=120, workers=2, store=tmp_path).coverage
    store = Store.open(tmp_path)
    stored = store.tally().coverage
    store.close()
    assert dataclasses.asdict(alone) == dataclasses.asdict(shared) == dataclasses.asdict(stored)


def test_so_many_clean_schedules_exclude_that_probability():
    for schedules in (1, 59, 300, 1_000_000):
        p = excluded_probability(schedules)
        assert (1 - p) ** schedules == pytest.approx(0.05)
    assert excluded_probability(1_000) == pytest.approx(3 / 1_000, rel=0.01)
    assert [share(p) for p in (0.5, 0.0031, 0.00000299)] == ["50 %", "0.31 %", "0.00030 %"]


def test_only_a_clean_sample_excludes_a_probability():
    clean = outcome_of()
    assert clean.object()["excluded_probability"] == excluded_probability(40)
    assert "excluded at 95 %: that more than 7.2 % of such schedules fail" in clean.report()
    failing = outcome_of(scenario=Scenario.load("bugs/map-enclosing-region"), driver="v6")
    for outcome in (failing, outcome_of("dfs"), outcome_of("fifo")):
        assert outcome.object()["excluded_probability"] is None
        assert "excluded" not in outcome.report()


def test_the_coverage_stands_in_text_and_json():
    outcome = outcome_of()
    found = outcome.object()["coverage"]
    assert found["pairs"] == found["new_in_last_1000"] > found["both_orders"] > 0
    assert f"coverage: {found['pairs']} ordered pairs of conflicting steps" in outcome.report()


def test_a_finding_names_the_member_of_the_portfolio_that_found_it():
    scenario = Scenario.load("bugs/callback-map-failure")
    seen = set()
    for seed in range(1, 7):
        outcome = outcome_of("portfolio", 100, scenario, "v6", seed=seed)
        (bug,) = outcome.findings
        assert bug.found_by == CYCLE[(bug.first_schedule - 1) % 9]
        assert f"first in schedule {bug.first_schedule} by {bug.found_by}, seen" in outcome.report()
        seen.add(bug.found_by)
    assert len(seen) > 1
    alone = outcome_of("pct", 100, scenario, "v6")
    assert alone.findings[0].found_by == "pct"
    assert "by pct" not in alone.report()


def test_an_exhaustive_search_that_is_not_exhausted_says_how_much_there_is(monkeypatch):
    monkeypatch.setattr(campaigns, "ESTIMATE_AFTER", 5)
    told = []
    outcome = outcome_of("dfs", 20, ACCESS, expect=told.append)
    (estimate,) = told
    assert outcome.schedules == 20
    assert outcome.object()["estimate"] == estimate.object()
    assert estimate.mean > 10_000
    assert "estimate: dfs would need about" in outcome.report()
    assert "estimate" not in outcome_of("random", 20, ACCESS).object()


def test_an_exhausted_search_needs_no_estimate():
    told = []
    single = Scenario.load("bugs/map-enclosing-region")
    outcome = outcome_of("dfs", 5_000, single, "fix1", expect=told.append)
    assert outcome.exhausted
    assert "estimate" not in outcome.object()
    assert not told


def test_an_estimate_repeats_itself_and_its_groups_lie_around_the_mean():
    async def act(stage):
        subject = Subject(PAGE, driver_spec("fix1"))
        return [await estimate_tree(subject, stage, 32, seed, 1) for seed in (1, 1, 2)]

    one, again, other = run_on_stage(act)
    assert one == again != other
    assert one.low <= one.median <= one.high
    assert one.low <= one.mean <= one.high
    assert one.descents == 32


def test_large_estimates_are_told_as_powers_of_ten():
    assert [rounded(n) for n in (12, 45_678, 2.9e6, 3.2e24)] == ["12", "45,678", "3e6", "3e24"]
    assert "about 3e24 schedules" in Estimate(3.2e24, 1e24, 1e20, 1e25, 128, 0).line()


def test_the_page_on_sampling_names_every_strategy_and_key():
    text = REFERENCE.read_text()
    named = set(re.findall(r"^\| `([a-z]+)` \|", text.partition("## Coverage")[0], re.MULTILINE))
    assert named == {name for name in STRATEGIES if samples(name)}
    assert f"`{' '.join(CYCLE)}`" in text
    assert f"mod {len(CYCLE)}" in text
    keys = [*Coverage().object(), *Estimate(1, 1, 1, 1, 1, 0).object(), "excluded_probability"]
    assert all(f"`{key}`" in text for key in (*keys, "found_by"))
    assert f"after {campaigns.ESTIMATE_AFTER} executions" in text
    assert f"From schedule {ALL_UNTIL + 1:,} on" in text
