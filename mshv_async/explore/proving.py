"""What an exhausted search has proved, and under which bounds.

A search that found nothing and left nothing out is called proved only if the model can be trusted
on this very scenario: the checks of the model (footprints, races, state keys) look at executions
of it drawn at random, and one complaint is enough to take the word back. The statement names
whatever was bounded; what it does not name was not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mshv_async.explore.checking import ModelChecks
from mshv_async.explore.results import Proof
from mshv_async.sim.strategies import RandomWalk

if TYPE_CHECKING:
    from mshv_async.explore.playing import Subject
    from mshv_async.scenario import Scenario
    from mshv_async.sim import Injection, Stage

#: Random executions that the model is checked on after a search.
CHECKED = 40
#: Of a long program so many lines are named.
LINES_SHOWN = 4


async def prove(
    subject: Subject,
    stage: Stage,
    *,
    preemptions: int | None,
    cycles: bool,
    second_phase: bool,
    checks: ModelChecks | None = None,
    checked: int = CHECKED,
) -> Proof:
    """Check the model, and state what an exhausted search without a finding has shown.

    ``cycles``: the search cut paths where a state came again, so that it speaks of schedules that
    end; ``second_phase``: in each of its schedules, at some decision, failures and interference
    stopped. ``checks``: those that ran beside the search, with what they saw.
    """
    if checks is None:
        checks = await _look(subject, stage, checked)
    else:
        checked = 0
    complaints = checks.complaints()
    which = "schedule that ends" if cycles else "schedule"
    statement = f"no {which} of this scope comes to a finding"
    if not cycles:
        statement += ", and every one ends"
    if second_phase:
        statement += "; what is under way ends once failures and interference stop"
    return Proof(
        proved=not complaints,
        statement=statement,
        scope=scope_lines(subject.scenario),
        bounds=bound_lines(subject.scenario, preemptions),
        checked=checked,
        complaints=complaints,
    )


async def _look(subject: Subject, stage: Stage, executions: int) -> ModelChecks:
    """Let the checks of the model look at random executions."""
    checks = ModelChecks()
    checked = replace(subject, checking=True)
    strategy = RandomWalk(1)
    for number in range(executions):
        strategy.begin(number)
        checkers = checks.for_execution()
        rt = await checked.play(stage, strategy, checkers=checkers)
        await checks.judge(checked, stage, rt, checkers)
    return checks


def scope_lines(scenario: Scenario) -> list[str]:
    """Name the threads and their programs, and the memory."""
    lines = []
    for thread in scenario.threads:
        lines_of = [str(line) for line in thread.program.lines]
        shown = "; ".join(lines_of[:LINES_SHOWN]) or "a workload"
        if len(lines_of) > LINES_SHOWN:
            shown += f"; … {len(lines_of) - LINES_SHOWN} lines more"
        lines.append(f"{thread.name}: {shown}")
    for region in scenario.region:
        some = "s" if region.pages > 1 else ""
        lines.append(f"region at gfn {region.gfn:#x}, {region.pages} page{some}")
    return lines


def bound_lines(scenario: Scenario, preemptions: int | None) -> list[str]:
    """Name what the search was bounded by, a line each."""
    lines = [
        "any number of preemptions"
        if preemptions is None
        else f"at most {preemptions} preemptions in a schedule"
    ]
    lines += [_injection(injection) for injection in scenario.inject] or ["no failures"]
    if scenario.hypervisor.reps == "grouped":
        lines.append("elements of a hypercall over gfns that nobody names are one step")
    return lines


def _injection(injection: Injection) -> str:
    what = injection.status or injection.errno
    where = f" within {injection.within}" if injection.within else ""
    often = "once" if injection.times == 1 else f"{injection.times} times"
    element = f", element {injection.rep}" if injection.rep is not None else ""
    force = "at the first call" if injection.force else "at any call"
    return (
        f"failures: {injection.at} {what}{where}{element}, {force}, "
        f"{often} for each thread and call site"
    )
