"""A likelihood names the decision that made a failure inevitable."""

import msgspec
import pytest

from mshv_async.explore import ReproError
from mshv_async.explore.campaign import Stop, explore_sync
from mshv_async.explore.likelihood import Share, likelihood
from mshv_async.explore.likelihood_text import likelihood_text, percent
from mshv_async.explore.repro import Departed
from mshv_async.explore.single import subject_of
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage
from mshv_async.sim.digest import digest
from mshv_async.sim.strategies import Continued

# One failure is permitted, and only in the callback: the mutex is lost at that choice, not before.
CHOSEN = """\
summary = "The callback may fail"

[[region]]
gfn = 0x200
size = "8KiB"

[[vp]]
program = ["write 0x200", "write 0x201"]

[[thread]]
kind = "host"
name = "host"
program = ["madvise dontneed 0x200 1"]

[[inject]]
at = "hypercall.map_gpa"
status = "OPERATION_FAILED"
within = "region_interval_invalidate"
"""


def failing(scenario, driver="v6", **options):
    campaign = explore_sync(scenario, driver, strategy="random", **options)
    return campaign.findings[0].repro


@pytest.fixture(scope="module")
def chosen():
    return failing(Scenario.parse(CHOSEN, "chosen"))


@pytest.fixture(scope="module")
def race():
    return failing(Scenario.load("bugs/unmap-during-fault"), seed=3)


def test_the_choice_that_fails_the_callback_is_named(chosen):
    found, steps = likelihood(chosen, runs=16)
    assert found.title == chosen.title
    jump = found.jump
    assert jump.decision.choice == ("hypercall.map_gpa.fails", 1, 2)
    assert "region_interval_invalidate" in jump.decision.taken.functions
    assert chosen.decisions[jump.number - 1].label == "hypercall.map_gpa.fails"
    assert (jump.after.share, jump.after.high) == (1.0, 1.0)
    assert jump.clear == (jump.before.high < jump.after.low)
    record = steps[jump.decision.step - 1]
    assert record.decision == ("hypercall.map_gpa.fails", 1, 2)


def test_a_race_is_decided_where_one_passes_the_other():
    """A07: the callback reads what is not set if its trylock fails: it matters who is first."""
    oops = failing(Scenario.load("bugs/oom-during-fault"), seed=4)
    found, _ = likelihood(oops, runs=30)
    decision = found.jump.decision
    assert found.jump.clear
    assert (decision.taken.thread, decision.taken.label) == ("vp1", "mutex.lock")
    assert decision.taken.object == "region@0x200.mutex"
    passed = {other.thread: other.label for other in decision.passed_over}
    assert passed["oom-reaper"] == "mutex.trylock"


def test_a_decision_who_runs_says_what_it_passed_over(race):
    found, steps = likelihood(race, runs=16)
    decision = found.jump.decision
    assert decision.choice is None
    bound = race.decisions[found.jump.number - 1].bound
    assert len(decision.passed_over) == bound - 1 >= 1
    ran = steps[decision.step - 1]
    assert (ran.actor, ran.label) == (decision.taken.thread, decision.taken.label)
    assert decision.taken.thread not in [other.thread for other in decision.passed_over]


def test_the_whole_tape_always_fails_and_the_share_before_is_less(race):
    found, _ = likelihood(race, runs=10)
    first, last = found.points[0], found.points[-1]
    assert (first.decisions, last.decisions) == (0, len(race.decisions))
    assert last.same.failed == last.any.failed == 10
    assert first.same.failed < 10
    assert all(point.same.failed <= point.any.failed for point in found.points)


def test_points_are_refined_down_to_neighbours_around_the_jump(race):
    found, _ = likelihood(race, runs=10, points=3)
    taken = {point.decisions for point in found.points}
    for jump in (found.jump, found.jump_any):
        assert {jump.number - 1, jump.number} <= taken


def test_the_same_question_has_the_same_answer(race):
    first, again, other = (likelihood(race, runs=6, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert first.points != other.points, "another seed takes other continuations"


def test_continuing_after_the_whole_tape_is_the_replay(race):
    subject = subject_of(race)

    async def act(stage):
        strategy = Continued([tuple(msgspec.to_builtins(d)) for d in race.decisions], 1)
        assert strategy.begin(0)
        whole = await subject.play(stage, strategy)
        strategy.kept = 0
        strategy.begin(0)
        return digest(whole), digest(await subject.play(stage, strategy))

    whole, free = run_on_stage(act)
    assert whole == race.digest != free


def test_the_plot_keeps_to_the_width_and_ends_full(race):
    found, steps = likelihood(race, runs=10)
    for width in (60, 100, 140):
        lines = likelihood_text(found, steps, width=width).splitlines()
        start = next(i for i, line in enumerate(lines) if line.lstrip().startswith("kept  from"))
        plot = lines[start + 1 : start + 1 + len(found.points)]
        assert max(map(len, plot)) == len(plot[-1]) == width
        assert "+" not in plot[-1]


def test_a_failure_that_was_there_from_the_start_has_no_jump():
    sure = failing(Scenario.load("bugs/write-to-read-only-region"))
    found, steps = likelihood(sure, runs=5)
    assert found.jump is None
    assert "no decision raises the share: it fails from the start on" in likelihood_text(
        found, steps
    )


def test_a_clean_run_has_no_likelihood_of_failure(race):
    with pytest.raises(ReproError, match="clean"):
        likelihood(msgspec.structs.replace(race, verdict="clean", title=""))


def test_a_repro_that_departs_is_not_measured(race):
    with pytest.raises(Departed, match="departs at step"):
        likelihood(msgspec.structs.replace(race, digest="0" * 64))


def test_one_that_is_stopped_shows_what_it_has(race):
    stop = Stop()
    seen = []

    def progress(runs, steps, failures):
        seen.append(runs)
        if runs == 25:
            stop()

    found, steps = likelihood(race, runs=10, stop=stop, progress=progress)
    assert found.interrupted
    assert len(found.points) == 2
    assert max(seen) == 25
    assert "interrupted" in likelihood_text(found, steps)


def test_one_that_is_stopped_in_its_first_point_says_that_nothing_was_measured(race):
    stop = Stop()
    found, steps = likelihood(race, runs=10, stop=stop, progress=lambda *_: stop())
    text = likelihood_text(found, steps)
    assert "interrupted before the first point was measured" in text
    assert "from each point" not in text


@pytest.mark.parametrize(
    ("failed", "runs", "low", "high"),
    # Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine
    # 17 (1998), table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_wilsons(failed, runs, low, high):
    share = Share.of(failed, runs)
    assert (share.low, share.high) == (low, high)


def test_all_but_one_is_not_shown_as_all():
    assert [percent(x) for x in (0.0, 0.001, 0.5, 0.999, 1.0)] == [
        "0 %",
        "<1 %",
        "50 %",
        ">99 %",
        "100 %",
    ]
