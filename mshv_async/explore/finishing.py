"""The end of a campaign: each title's shortest run is replayed, shrunk, and kept for the report.

What `Tally` holds of a failure is its tape; here it becomes a `FoundFinding`, with the records of
a run that was seen to fail. No finding reaches a user by another way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import structs

from mshv_async.explore.auditing import CallSites, difference
from mshv_async.explore.catalogue import found_by
from mshv_async.explore.drivers import is_shipped
from mshv_async.explore.playing import Subject, log_finding, package_version, play_tape, records
from mshv_async.explore.repro import Original, Repro, TapeEntry, step_table
from mshv_async.explore.results import (
    CLEAN,
    FoundFinding,
    NotDeterministic,
    RuntimeDefect,
    Shrinking,
)
from mshv_async.explore.shrinking import shrink
from mshv_async.explore.slicing import depends_on
from mshv_async.sim.digest import digest, step_lines
from mshv_async.sim.verdicts import severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.explore.shrinking import Shrunk
    from mshv_async.explore.tally import FailingRun, Tally
    from mshv_async.sim import Runtime, Stage, Tape
    from mshv_async.sim.checkers import StepChecker


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
            shown = (subject, again)
            if shrinks and not enough():
                small = await shrink(subject, stage, again, seed=seed, enough=enough)
                found = findings[-1] = _shrunk(found, small)
                shown = (small.subject, small.runtime)
            findings[-1] = await _sliced(found, stage, *shown)
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
        found_by=run.found_by or found_by(strategy, run.first_schedule),
        records=records(again),
    )


async def _sliced(found: FoundFinding, stage: Stage, subject: Subject, rt: Runtime) -> FoundFinding:
    """Return a finding whose records say which steps it depends on."""
    depends = await depends_on(subject, stage, rt, seed=found.repro.seed)
    return replace(found, records=records(rt, depends))


def _shrunk(found: FoundFinding, small: Shrunk) -> FoundFinding:
    """Return a finding with the smallest run that comes to the same, and what it was found as."""
    known = found.repro
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


async def replayed(
    run: FailingRun, subject: Subject, stage: Stage, seed: int, original: Runtime | None = None
) -> Runtime:
    """Replay a failing run, and return the replay. Raises RuntimeDefect unless it is the same.

    ``original``, if it is still known, lets the error say where they part. NotDeterministic where
    the driver is a user's: then it is the likely cause.
    """
    again = await replay_tape(run.tape, subject, stage, seed)
    if again.finding is not None and (digest(again), again.finding.title) == (
        run.digest,
        run.title,
    ):
        return again
    how = f"(departure: {again.departure})"
    if original is not None:
        sites = CallSites()
        third = await replay_tape(run.tape, subject, stage, seed, sites)
        differs = difference(original, third, CallSites(), sites)
        how = differs or difference(original, again, CallSites(), CallSites()) or how
    came_to = again.finding.title if again.finding else "clean"
    what = (
        f"execution {run.schedule} found {run.title!r}, but its tape replays to {came_to!r}: {how}"
    )
    if is_shipped(subject.driver):
        raise RuntimeDefect(what)
    raise NotDeterministic(what)


async def replay_tape(
    tape: Tape, subject: Subject, stage: Stage, seed: int, *checkers: StepChecker
) -> Runtime:
    """Play one tape, and keep its notes."""
    return await play_tape(subject, stage, tape, seed=seed, keep=True, checkers=checkers)


def repro_of(rt: Runtime, subject: Subject, *, strategy: str, seed: int) -> Repro:
    """Return the file that replays an execution."""
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
        verdict=rt.finding.verdict if rt.finding else CLEAN,
        title=rt.finding.title if rt.finding else "",
        package_version=package_version(),
        loop=rt.finding.loop if rt.finding else None,
        steps=step_table(step_lines(rt)),
    )
