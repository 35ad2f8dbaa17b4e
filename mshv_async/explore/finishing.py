"""The end of a campaign: each title's shortest run is replayed, shrunk, and kept for the report.

What `Tally` holds of a failure is its tape; here it becomes a `FoundFinding`, with the records of
a run that was seen to fail. No finding reaches a user by another way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import structs

from mshv_async.explore.playing import Subject, log_finding, package_version, records
from mshv_async.explore.repro import Original, Repro, TapeEntry, step_table
from mshv_async.explore.results import FoundFinding, RuntimeDefect, Shrinking
from mshv_async.explore.shrinking import shrink
from mshv_async.sim.digest import digest, step_lines
from mshv_async.sim.strategies import Replay
from mshv_async.sim.verdicts import severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.explore.tally import FailingRun, Tally
    from mshv_async.sim import Runtime, Stage, Tape


async def finish(
    tally: Tally,
    subject: Subject,
    stage: Stage,
    *,
    strategy: str,
    seed: int,
    shrinks: bool = False,
    enough: Callable[[], bool] = lambda: False,
) -> tuple[list[FoundFinding], list[Exception]]:
    """Return a campaign's findings, the worst first, and why others could not be shown.

    A finding that does not replay is a RuntimeDefect; it takes no other finding with it.
    ``shrinks``: make each as small as it gets, until somebody has ``enough`` of that.
    """
    findings: list[FoundFinding] = []
    errors: list[Exception] = []
    for run in sorted(tally.findings.values(), key=lambda r: (severity(r.verdict), r.title)):
        try:
            again = await replayed(run, subject, stage, seed)
            found = _found(run, again, subject, strategy, seed)
            findings.append(found)
            if shrinks and not enough():
                findings[-1] = await _shrunk(found, again, subject, stage, enough)
        except Exception as error:  # whatever a driver of the user's raises
            errors.append(error)
    return findings, errors


def _found(
    run: FailingRun, again: Runtime, subject: Subject, strategy: str, seed: int
) -> FoundFinding:
    finding = log_finding(again)
    assert finding is not None
    return FoundFinding(
        finding=finding,
        repro=repro_of(again, subject, strategy=strategy, seed=seed),
        first_schedule=run.first_schedule,
        count=run.count,
        steps=again.steps,
        preemptions=len(again.preempted_at),
        records=records(again),
    )


async def _shrunk(
    found: FoundFinding,
    original: Runtime,
    subject: Subject,
    stage: Stage,
    enough: Callable[[], bool],
) -> FoundFinding:
    """Return a finding with the smallest run that comes to the same, and what it was found as."""
    known = found.repro
    small = await shrink(subject, stage, original, seed=known.seed, enough=enough)
    finding = log_finding(small.runtime)
    assert finding is not None
    repro = known
    if small.size != small.original or small.reduced:
        smaller = repro_of(small.runtime, small.subject, strategy=known.strategy, seed=known.seed)
        repro = structs.replace(
            smaller,
            original=Original(
                decisions=known.decisions,
                digest=known.digest,
                steps=found.steps,
                preemptions=found.preemptions,
                scenario=known.scenario if small.reduced else None,
                trace=known.steps,
            ),
        )
    return replace(
        found,
        finding=finding,
        repro=repro,
        steps=small.runtime.steps,
        preemptions=len(small.runtime.preempted_at),
        shrinking=Shrinking(
            small.executions,
            small.fewest,
            small.minimal,
            small.reduced,
            small.original.steps,
            small.original.preemptions,
        ),
        records=records(small.runtime),
    )


async def replayed(run: FailingRun, subject: Subject, stage: Stage, seed: int) -> Runtime:
    """Replay a failing run, and return the replay. Raises RuntimeDefect unless it is the same."""
    again = await replay_tape(run.tape, subject, stage, seed)
    if again.finding is None or (digest(again), again.finding.title) != (run.digest, run.title):
        raise RuntimeDefect(
            f"execution {run.schedule} found {run.title!r}, but its tape replays to "
            f"{again.finding.title if again.finding else 'clean'!r} "
            f"(departure: {again.departure})"
        )
    return again


async def replay_tape(tape: Tape, subject: Subject, stage: Stage, seed: int) -> Runtime:
    """Play one tape, and keep its notes."""
    replay = Replay(tuple(tape))
    replay.begin(0)
    return await subject.play(stage, replay, seed=seed, keep=True)


def repro_of(rt: Runtime, subject: Subject, *, strategy: str, seed: int) -> Repro:
    """Return the file that replays a failing execution."""
    assert rt.finding is not None
    scenario, driver = subject.scenario, subject.driver
    return Repro(
        scenario=scenario.text,
        scenario_name=scenario.name,
        files=scenario.files(),
        driver=driver.name,
        driver_source=driver.source,
        strategy=strategy,
        seed=seed,
        decisions=[TapeEntry(*decision) for decision in rt.tape],
        digest=digest(rt),
        verdict=rt.finding.verdict,
        title=rt.finding.title,
        package_version=package_version(),
        steps=step_table(step_lines(rt)),
    )
