"""Scripts read these objects: the keys are fixed, and as_expected decides exit statuses."""

from pathlib import Path

import pytest
from test_repro_files import REPRO

from mshv_async.explore.outcome import campaign_outcome, expect_table, replay_outcome, run_outcome
from mshv_async.explore.results import CampaignResult, FoundFinding, ReplayResult, RunResult
from mshv_async.explore.saving import output_folder, save_campaign, save_outcome
from mshv_async.explore.summary import replay_command, replay_text, run_text
from mshv_async.log import Finding, NoteRecord, RunHeader, StepRecord

HEADER = RunHeader("mshv-async.log/1", "litmus/one-page", "v6", "pct", 7, "0.1.0")
STEPS = [
    StepRecord(1, None, "vp0", "mutex.lock", "region@0x200.mutex"),
    NoteRecord(1, None, "vp0", "fault.begin", {"gfn": 0x200}),
    StepRecord(2, None, "madvise", "notifier.start", "mm0", preempted=True),
]


def found(verdict, title=None, **more):
    keys = {"first_schedule": 12, "count": 3, "steps": 2, "preemptions": 1, "records": STEPS}
    return FoundFinding(Finding(verdict, title or f"{verdict}: f / g"), REPRO, **(keys | more))


def campaign(*findings, **more):
    return CampaignResult(
        **({"schedules": 312, "steps": 24_511, "seconds": 0.81234, "exhausted": False} | more),
        findings=findings,
    )


def judged(result, expected=("clean",), repros=(), strategy="pct"):
    return campaign_outcome(
        result,
        scenario="litmus/one-page",
        driver="v6",
        strategy=strategy,
        seed=7,
        expected=expected,
        repros=repros,
    )


def run_result(verdict="clean", finding=None, **more):
    keys = {"digest": "ab" * 32, "steps": 2, "virtual_ns": 1500, "records": STEPS}
    return RunResult(verdict, finding.title if finding else "", header=HEADER, finding=finding,
                     **(keys | more))  # fmt: skip


def test_explore_json_has_exactly_the_fixed_keys():
    outcome = judged(campaign(found("lost-unlock")), repros=[Path("out/1-lost-unlock.repro.json")])
    data = outcome.object()
    assert list(data) == [
        "scenario",
        "driver",
        "strategy",
        "seed",
        "schedules",
        "steps",
        "seconds",
        "exhausted",
        "outcome",
        "expected",
        "as_expected",
        "predicted",
        "refuted",
        "warnings",
        "findings",
        "preemptions",
        "cut",
        "interrupted",
        "workers",
        "shard",
        "proof",
        "coverage",
        "excluded_probability",
    ]
    assert list(data["findings"][0]) == [
        "verdict",
        "title",
        "first_schedule",
        "count",
        "steps",
        "preemptions",
        "found_by",
        "repro",
        "original_steps",
        "original_preemptions",
    ]
    assert Path(data["findings"][0]["repro"]).is_absolute()


def test_run_and_replay_json_have_exactly_the_fixed_keys():
    keys = [
        "scenario",
        "driver",
        "seed",
        "verdict",
        "title",
        "digest",
        "steps",
        "virtual_ns",
        "expected",
        "as_expected",
        "log",
        "cut",
    ]
    run = run_outcome(
        run_result(), scenario="s", driver="v6", seed=1, expected=["clean"], log=Path("x.jsonl")
    )
    assert list(run.object()) == keys
    assert Path(run.object()["log"]).is_absolute()
    replay = replay_outcome(ReplayResult(run_result(), matches=True), REPRO, expected=["clean"])
    assert list(replay.object()) == [*keys, "recorded_verdict", "recorded_digest", "matches"]
    assert replay.object()["recorded_verdict"] == "lost-unlock"


def test_a_run_that_was_cut_short_is_not_as_expected():
    whole, cut = (
        run_outcome(run_result(cut=was_cut), scenario="s", driver="v6", seed=1, expected=["clean"])
        for was_cut in (False, True)
    )
    assert (whole.as_expected, cut.as_expected) == (True, False)


@pytest.mark.parametrize(
    ("verdicts", "expected", "as_expected"),
    [
        ([], ["clean"], True),
        (["oops"], ["clean"], False),
        (["lost-unlock"], ["lost-unlock"], True),
        ([], ["lost-unlock"], False),
        (["lost-unlock", "oops"], ["lost-unlock"], False),
        (["lost-unlock", "oops"], ["lost-unlock", "oops", "deadlock"], True),
    ],
)
def test_an_outcome_is_expected_only_if_a_listed_verdict_and_no_other_was_found(
    verdicts, expected, as_expected
):
    assert judged(campaign(*map(found, verdicts)), expected).as_expected is as_expected


def test_where_nothing_waits_for_ever_any_more_clean_is_expected_and_said():
    outcome = judged(campaign(found("livelock")), ("livelock",), strategy="pct+two-phase")
    assert outcome.object()["expected"] == ["clean"]
    assert outcome.report().endswith("outcome: livelock, expected clean")


def test_the_outcome_is_the_worst_verdict():
    verdicts = ["warn", "invariant:coherence", "use-after-free", "livelock"]
    assert judged(campaign(*map(found, verdicts))).outcome == "use-after-free"
    assert judged(campaign()).outcome == "clean"
    assert judged(campaign()).clean


def test_expectations_come_from_the_scenarios_own_text():
    assert expect_table('summary = "x"\n[expect]\nv6 = ["oops"]\n') == {"v6": ["oops"]}
    assert expect_table('summary = "x"\n') == {}


def test_a_report_has_each_finding_with_its_command_and_ends_with_the_outcome(tmp_path):
    result = campaign(found("lost-unlock"), found("oops"))
    paths = save_campaign(tmp_path, result)
    text = judged(result, ["lost-unlock"], paths).report()
    assert text.startswith("lost-unlock: f / g\n")
    assert f"mshv-async replay {tmp_path}/1-lost-unlock.repro.json" in text
    assert "notifier.start mm0" in text
    assert "fault.begin" not in text
    assert text.endswith("outcome: oops, expected lost-unlock")


def test_a_clean_report_says_what_was_covered():
    clean = judged(campaign(exhausted=True, states=999, predicted=["a under b"], warnings={"w": 2}))
    text = clean.report()
    assert "312 schedules, 24,511 steps, 0.8 s, 999 distinct states" in text
    assert "exhausted: nothing" in text
    assert "predicted: a under b" in text
    assert "warning: w (2 times)" in text
    assert text.endswith("outcome: clean, as expected")


def test_an_interrupted_campaign_says_so():
    assert "interrupted" in judged(campaign(interrupted=True)).report()


def test_the_replay_command_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = str(tmp_path / "my runs" / "1-oops.repro.json")
    assert replay_command(inside, REPRO) == "mshv-async replay 'my runs/1-oops.repro.json'"


def test_a_run_tells_its_finding_time_and_log():
    finding = Finding("oops", "oops: f")
    result = run_result("oops", finding)
    outcome = run_outcome(result, scenario="s", driver="v6", seed=1, expected=["clean"],
                          log=Path("/tmp/x.jsonl"))  # fmt: skip
    text = run_text(outcome, result)
    assert text.startswith("oops: f\n")
    assert "1.50 us of virtual time" in text
    assert "outcome: oops, expected clean" in text
    assert text.endswith("log: /tmp/x.jsonl")


@pytest.mark.parametrize("with_columns", [False, True])
def test_a_replay_shows_columns_only_when_asked(with_columns):
    replay = ReplayResult(run_result(), matches=True)
    outcome = replay_outcome(replay, REPRO, expected=["clean"])
    text = replay_text(outcome, replay, with_columns=with_columns)
    assert ("mutex.lock region@0x200.mutex" in text) is with_columns
    assert "matches the recording" in text


def test_a_replay_that_departs_says_where():
    why = "departs at step 2: recorded 'a', replayed 'b'"
    replay = ReplayResult(run_result(), matches=False, departure=why)
    outcome = replay_outcome(replay, REPRO, expected=["clean"])
    assert f"replay: {why}" in replay_text(outcome, replay, with_columns=False)


def test_the_output_folder_is_new_for_each_campaign_and_made_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = output_folder(None, "litmus/one-page")
    second = output_folder(None, "litmus/one-page")
    assert first != second
    assert first.parent == second.parent == Path("mshv-async-runs")
    assert first.is_dir()
    assert second.is_dir()


def test_an_output_folder_that_takes_no_files_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        output_folder(tmp_path / "file" / "below", "s")


def test_findings_are_saved_under_their_number_and_verdict(tmp_path):
    result = campaign(found("invariant:stale-mapping"), found("oops"))
    paths = save_campaign(tmp_path, result)
    save_outcome(tmp_path, judged(result, repros=paths).object())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "1-invariant:stale-mapping.repro.json",
        "2-oops.repro.json",
        "outcome.json",
    ]
