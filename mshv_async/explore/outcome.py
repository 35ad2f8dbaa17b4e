"""What a campaign, a run or a replay came to, against what the scenario expects (formats.md 2).

`Outcome`, `RunOutcome` and `ReplayOutcome` hold exactly what `--json` prints; `object()` of each
gives that object.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mshv_async.explore.catalogue import TWO_PHASE, samples
from mshv_async.explore.coverage import excluded_probability
from mshv_async.explore.results import CLEAN, CampaignResult, Proof, ReplayResult, RunResult
from mshv_async.explore.summary import campaign_text, replay_text, run_text
from mshv_async.explore.verdict import Verdict
from mshv_async.scenario.expect import as_expected
from mshv_async.sim.verdicts import WAITING, severity

if TYPE_CHECKING:
    from mshv_async.explore.repro import Repro


class FoundBug(msgspec.Struct, frozen=True):
    """One finding of a campaign; `repro` is the absolute path of its file, null if not saved.

    `steps` and `preemptions` are those of the run in it, the `original` ones those of the run as
    it was found, before it was shrunk. `found_by`: the strategy, of a portfolio the member.
    """

    verdict: str
    title: str
    first_schedule: int
    count: int
    steps: int
    preemptions: int
    found_by: str
    repro: str | None
    original_steps: int
    original_preemptions: int


class Outcome(msgspec.Struct, frozen=True):
    """What an exploration came to. `outcome` is the worst verdict, `clean` without a finding.

    `warnings` counts WARN sites that fired; `predicted` lists lock-order inversions not closed,
    `refuted` those that the exhausted search shows to be none.
    `preemptions`: the bound of the strategy, None without; `cut`: executions ended unjudged at a
    bound; `interrupted`: before the budget was used; `shard`: which part of the executions was
    played, by how many `workers`. `coverage` counts orders of conflicting steps;
    `excluded_probability`: how likely a schedule may at most fail, at 95 %, where a sampling
    strategy found nothing, else None; `proof`: what an exhausted search without a finding has
    shown, else None. `campaign` holds the runs behind it and is no part of the JSON.
    """

    scenario: str
    driver: str
    strategy: str
    seed: int
    schedules: int
    steps: int
    seconds: float
    exhausted: bool
    outcome: str
    expected: list[str]
    as_expected: bool
    predicted: list[str]
    refuted: list[str]
    warnings: dict[str, int]
    findings: list[FoundBug]
    preemptions: int | None
    cut: int
    interrupted: bool
    workers: int
    shard: str
    proof: Proof | None
    coverage: dict[str, int]
    excluded_probability: float | None
    campaign: CampaignResult

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return self.outcome == CLEAN

    @property
    def verdict(self) -> Verdict:
        """The worst verdict."""
        return Verdict(self.outcome)

    @property
    def repros(self) -> list[Repro]:
        """What replays each finding, in their order: for `replay` or `save_repro`."""
        return [found.repro for found in self.campaign.findings]

    def object(self) -> dict[str, Any]:
        """Return the object that `explore --json` prints; `--check` adds what the checks say.

        `states` stands there where they were counted, `estimate` where a search for all schedules
        was not exhausted.
        """
        shown = {k: v for k, v in msgspec.structs.asdict(self).items() if k != "campaign"}
        if self.campaign.estimate is not None:
            shown["estimate"] = self.campaign.estimate.object()
        if self.campaign.states is not None:
            shown["states"] = self.campaign.states
        if self.campaign.complaints is not None:
            shown["complaints"] = self.campaign.complaints
        built: dict[str, Any] = msgspec.to_builtins(shown)
        return built

    def report(self) -> str:
        """Return the text that `explore` prints: each finding's report, then what was covered."""
        return campaign_text(self)


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one run came to; `log` is the absolute path of its log, null if none was kept.

    `cut`: it was ended at a bound. `run` is the run itself and no part of the JSON.
    """

    scenario: str
    driver: str
    seed: int
    verdict: str
    title: str
    digest: str | None
    steps: int
    virtual_ns: int | None
    expected: list[str]
    as_expected: bool
    log: str | None
    cut: bool
    run: RunResult

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return self.verdict == CLEAN

    def object(self) -> dict[str, Any]:
        """Return the object that `run --json` prints."""
        hidden = ("run", "departure")
        shown = {k: v for k, v in msgspec.structs.asdict(self).items() if k not in hidden}
        built: dict[str, Any] = msgspec.to_builtins(shown)
        return built

    def report(self) -> str:
        """Return the text that `run` prints."""
        return run_text(self, self.run)


class ReplayOutcome(RunOutcome, frozen=True, kw_only=True):
    """What a replay came to, beside what its file recorded.

    `departure` says where it left its recording, and is no part of the JSON.
    """

    recorded_verdict: str
    recorded_digest: str
    matches: bool
    departure: str | None = None

    def report(self) -> str:
        """Return the text that `replay --columns` prints."""
        result = ReplayResult(self.run, self.matches, self.departure)
        return replay_text(self, result, with_columns=True)


def expect_table(scenario_text: str) -> dict[str, list[str]]:
    """Return the `[expect]` table of a scenario's text that was loaded before, so is sound."""
    table: dict[str, list[str]] = tomllib.loads(scenario_text).get("expect", {})
    return table


def campaign_outcome(
    campaign: CampaignResult,
    *,
    scenario: str,
    driver: str,
    strategy: str,
    seed: int,
    expected: Sequence[str],
    repros: Sequence[Path] = (),
    preemptions: int | None = None,
    workers: int = 1,
    shard: str = "1/1",
) -> Outcome:
    """Judge a campaign. `repros` are the files of its findings, in their order, if saved."""
    verdicts = [found.finding.verdict for found in campaign.findings]
    if strategy.endswith(TWO_PHASE):  # a scenario expects what comes of endless disturbance
        expected = [verdict for verdict in expected if verdict not in WAITING] or [CLEAN]
    paths: list[str | None] = [str(path.absolute()) for path in repros]
    paths += [None] * (len(verdicts) - len(paths))
    return Outcome(
        scenario=scenario,
        driver=driver,
        strategy=strategy,
        seed=seed,
        schedules=campaign.schedules,
        steps=campaign.steps,
        seconds=round(campaign.seconds, 3),
        exhausted=campaign.exhausted,
        outcome=min(verdicts, key=severity, default=CLEAN),
        expected=list(expected),
        as_expected=campaign.schedules > 0 and as_expected(expected, verdicts),
        predicted=list(campaign.predicted),
        refuted=list(campaign.refuted),
        warnings=dict(campaign.warnings),
        findings=[
            FoundBug(
                verdict=found.finding.verdict,
                title=found.finding.title,
                first_schedule=found.first_schedule,
                count=found.count,
                steps=found.steps,
                preemptions=found.preemptions,
                found_by=found.found_by or strategy,
                repro=path,
                original_steps=found.original_steps,
                original_preemptions=found.original_preemptions,
            )
            for found, path in zip(campaign.findings, paths, strict=True)
        ],
        preemptions=preemptions,
        cut=campaign.cut,
        interrupted=campaign.interrupted,
        workers=workers,
        shard=shard,
        proof=campaign.proof,
        coverage=campaign.coverage.object(),
        excluded_probability=_excluded(campaign, strategy),
        campaign=campaign,
    )


def _excluded(campaign: CampaignResult, strategy: str) -> float | None:
    judged = campaign.schedules - campaign.cut
    if campaign.findings or judged <= 0 or not samples(strategy):
        return None
    return excluded_probability(judged)


def run_outcome(
    run: RunResult,
    *,
    scenario: str,
    driver: str,
    seed: int,
    expected: Sequence[str],
    log: Path | None = None,
) -> RunOutcome:
    """Judge one run; one that was cut short is not what anybody expects."""
    return RunOutcome(
        scenario=scenario,
        driver=driver,
        seed=seed,
        verdict=run.verdict,
        title=run.title,
        digest=run.digest,
        steps=run.steps,
        virtual_ns=run.virtual_ns,
        expected=list(expected),
        as_expected=as_expected(expected, [run.verdict]) and not run.cut,
        log=None if log is None else str(log.absolute()),
        cut=run.cut,
        run=run,
    )


def replay_outcome(
    replay: ReplayResult, repro: Repro, *, expected: Sequence[str], log: Path | None = None
) -> ReplayOutcome:
    """Judge a replay."""
    run = run_outcome(
        replay.run,
        scenario=repro.scenario_name,
        driver=repro.driver,
        seed=repro.seed,
        expected=expected,
        log=log,
    )
    return ReplayOutcome(
        **msgspec.structs.asdict(run),
        recorded_verdict=repro.verdict,
        recorded_digest=repro.digest,
        matches=replay.matches,
        departure=replay.departure,
    )
