"""Outcomes in words: what `explore`, `run` and `replay` print for people."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mshv_async.explore.results import step_records
from mshv_async.log.columns import columns
from mshv_async.log.report import report
from mshv_async.log.tables import duration

if TYPE_CHECKING:
    from mshv_async.explore.outcome import Outcome, ReplayOutcome, RunOutcome
    from mshv_async.explore.repro import Repro
    from mshv_async.explore.results import FoundFinding, Proof, ReplayResult, RunResult


def campaign_text(outcome: Outcome) -> str:
    """Render a campaign: a report for each finding, then what was covered."""
    campaign = outcome.campaign
    blocks = [
        report(
            found.finding,
            step_records(found.records),
            command=replay_command(bug.repro, found.repro)
            if bug.repro
            else replay_call(number, found.repro),
        )
        for number, (found, bug) in enumerate(zip(campaign.findings, outcome.findings, strict=True))
    ]
    return "\n\n".join([*blocks, "\n".join(coverage_lines(outcome))])


def coverage_lines(outcome: Outcome) -> list[str]:
    """Say what was run, what it came to, and what else was noticed."""
    campaign = outcome.campaign
    amount = f"{_count(outcome.schedules, 'schedule')}, {_count(outcome.steps, 'step')}"
    amount += f", {outcome.seconds:.1f} s"
    if campaign.states is not None:
        amount += f", {campaign.states:,} distinct states"
    what = f"{outcome.scenario}  driver {outcome.driver}  strategy {outcome.strategy}"
    if outcome.preemptions is not None:
        what += f"  at most {_count(outcome.preemptions, 'preemption')}"
    lines = [f"{what}  seed {outcome.seed}", amount]
    if outcome.proof is not None:
        lines += proof_lines(outcome.proof)
    elif outcome.exhausted:
        lines.append("exhausted: nothing of this scope is left to run")
    lines += _statistics(outcome)
    if campaign.cut:
        lines.append(f"cut at max_steps, not judged: {_count(campaign.cut, 'schedule')}")
    if campaign.complaints is not None:
        lines += [f"model: {complaint}" for complaint in campaign.complaints]
        if not campaign.complaints:
            lines.append("model: footprint, race and state-key checks are silent")
    if campaign.interrupted:
        lines.append("interrupted: this is what was found so far")
    if campaign.error is not None:
        lines.append("ended by an error: this is what was found so far")
    lines += [f"warning: {site} ({_times(times)})" for site, times in outcome.warnings.items()]
    lines += [f"predicted: {text}" for text in outcome.predicted]
    lines += [f"refuted: {text}: the search was exhausted" for text in outcome.refuted]
    lines += _finding_lines(outcome)
    lines.append(f"outcome: {outcome.outcome}, {expectation(outcome)}")
    return lines


def _statistics(outcome: Outcome) -> list[str]:
    """Say what orders were seen, and what the numbers tell of what was not."""
    campaign = outcome.campaign
    lines = [campaign.coverage.line()]
    if outcome.excluded_probability is not None:
        excluded = share(outcome.excluded_probability)
        lines.append(f"excluded at 95 %: that more than {excluded} of such schedules fail")
    if campaign.estimate is not None:
        lines.append(campaign.estimate.line())
    return lines


def proof_lines(proof: Proof) -> list[str]:
    """Say what an exhausted search has shown, for which scope, and under which bounds."""
    if not proof.proved:
        lines = [f"exhausted, not proved: {proof.statement}, but the model has a defect"]
        return [*lines, *(f"  model: {complaint}" for complaint in proof.complaints)]
    lines = [f"proved: {proof.statement}"]
    lines += [f"  scope: {line}" for line in proof.scope]
    lines += [f"  bound: {line}" for line in proof.bounds]
    looked = f" over {proof.checked} random schedules" if proof.checked else ""
    return [*lines, f"  model: footprint, race and state-key checks are silent{looked}"]


def _finding_lines(outcome: Outcome) -> list[str]:
    lines = []
    both = zip(outcome.campaign.findings, outcome.findings, strict=True)
    for number, (found, bug) in enumerate(both, 1):
        by = f" by {bug.found_by}" if not outcome.strategy.startswith(bug.found_by) else ""
        seen = f"first in schedule {bug.first_schedule:,}{by}, seen {_times(bug.count)}"
        size = f"{_count(bug.steps, 'step')}, {_count(bug.preemptions, 'preemption')}"
        lines += [f"finding {number}: {bug.title}", f"  {seen}, {size}"]
        lines += [f"  {line}" for line in shrunk_lines(found)]
        if bug.repro:
            lines.append(f"  {shown_path(bug.repro)}")
    return lines


def shrunk_lines(found: FoundFinding) -> list[str]:
    """Say what shrinking came to, and what is known of the result; nothing if it was not tried."""
    how = found.shrinking
    if how is None:
        return []
    is_ = f"{_count(found.steps, 'step')}, {_count(found.preemptions, 'preemption')}"
    was = f"{_count(how.original_steps, 'step')}, "
    was += _count(how.original_preemptions, "preemption")
    what = "no simpler schedule found" if was == is_ else f"shrunk from {was} to {is_}"
    known = ["its scenario was made smaller"] if how.reduced else []
    if how.fewest:
        known.append("no schedule has fewer preemptions")
    elif how.minimal:
        known.append("no part of its schedule can be left out")
    lines = [f"{what} ({_count(how.executions, 'execution')})"]
    return [*lines, "; ".join(known)] if known else lines


def expectation(outcome: Outcome | RunOutcome) -> str:
    """Say in words whether the outcome is the expected one."""
    if outcome.as_expected:
        return "as expected"
    return f"expected {' or '.join(outcome.expected)}"


def replay_command(path: str, repro: Repro) -> str:
    """Return the command line that replays the repro at `path`, which is made relative."""
    trust = " --trust" if repro.driver_source is not None else ""
    return f"mshv-async replay {shlex.quote(shown_path(path))}{trust}"


def replay_call(number: int, repro: Repro) -> str:
    """Return what replays, in Python, a finding that was not saved."""
    cls = repro.driver.rpartition(".py:")[2] if ".py:" in repro.driver else ""
    return f"await replay(outcome.repros[{number}]{f', driver={cls}' if cls else ''})"


def shown_path(path: str) -> str:
    """Return a path relative to the current folder if it lies below."""
    file, here = Path(path), Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def run_text(outcome: RunOutcome, run: RunResult) -> str:
    """Render a run: the report of its finding, if any, then what it came to."""
    blocks = [report(run.finding, step_records(run.records))] if run.finding else []
    return "\n\n".join([*blocks, "\n".join(_run_lines(outcome, run))])


def schedule_text(outcome: RunOutcome, run: RunResult, schedule: int, repro: str | None) -> str:
    """Render one schedule of a search, in columns whatever it came to; `repro` is its file."""
    steps = step_records(run.records)
    told = report(run.finding, steps) if run.finding is not None else "\n".join(columns(steps))
    lines = _run_lines(outcome, run)
    lines[0] += f"  strategy {run.header.strategy}  schedule {schedule:,}"
    if repro is not None:
        lines.append(f"repro: {shown_path(repro)}")
    return f"{told}\n\n" + "\n".join(lines)


def replay_text(outcome: ReplayOutcome, replay: ReplayResult, *, with_columns: bool) -> str:
    """Render a replay: where it departs, its finding, with or without columns, and its verdict."""
    run = replay.run
    steps = step_records(run.records) if with_columns else []
    blocks: list[str] = []
    if run.finding is not None:
        blocks.append(report(run.finding, steps))
    elif steps:
        blocks.append("\n".join(columns(steps)))
    lines = _run_lines(outcome, run)
    if replay.matches:
        lines.append("replay: matches the recording")
    else:
        lines.append(f"replay: {replay.departure or 'differs from the recording'}")
        lines.append(f"recorded: {outcome.recorded_verdict}, digest {outcome.recorded_digest}")
    return "\n\n".join([*blocks, "\n".join(lines)])


def _run_lines(outcome: RunOutcome, run: RunResult) -> list[str]:
    time = "" if outcome.virtual_ns is None else f", {duration(outcome.virtual_ns)} of virtual time"
    lines = [
        f"{outcome.scenario}  driver {outcome.driver}  seed {outcome.seed}",
        f"{outcome.steps:,} steps{time}, digest {outcome.digest or 'none'}",
        f"outcome: {outcome.verdict}, {expectation(outcome)}",
    ]
    if run.cut:
        lines.insert(2, "cut short: it did not end within the bound of steps")
    return [*lines, f"log: {outcome.log}"] if outcome.log else lines


def share(probability: float) -> str:
    """Return a probability above 0 as a percentage with two digits that count."""
    percent = probability * 100
    return f"{percent:.{max(0, 1 - math.floor(math.log10(percent)))}f} %"


def _count(n: int, what: str) -> str:
    return f"1 {what}" if n == 1 else f"{n:,} {what}s"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n:,} times"
