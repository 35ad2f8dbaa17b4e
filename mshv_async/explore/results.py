"""What executions and campaigns hand back: typed, frozen, ready for reports and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from mshv_async.explore.coverage import Coverage
from mshv_async.explore.estimate import Estimate
from mshv_async.explore.repro import Repro
from mshv_async.log.record import Finding, Record, RunHeader, RunVerdict, StepRecord

CLEAN = "clean"

# Called now and then from the exploring thread: schedules run, steps taken, findings so far.
Progress: TypeAlias = Callable[[int, int, int], None]


class RuntimeDefect(Exception):
    """A finding did not replay to the same execution: the runtime, not the driver, is wrong."""


class NotDeterministic(Exception):
    """An execution went otherwise when it was played again: nothing in it can be believed."""


class CampaignError(Exception):
    """A campaign that cannot be run, divided, or gone on with as it was asked for. One line."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """One execution. `records` are its steps and notes in order, empty if they were not kept.

    `digest` is None in real time, `virtual_ns` outside timed mode, `finding` where it was clean.
    `cut`: it was ended at a bound of steps, so that being clean says nothing.
    """

    verdict: str
    title: str
    digest: str | None
    steps: int
    virtual_ns: int | None
    header: RunHeader
    records: Sequence[Record] = ()
    finding: Finding | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Shrinking:
    """How far a finding was shrunk, from how much, in so many executions.

    `fewest`: no schedule of its scenario with fewer preemptions fails in this way; `minimal`: no
    single stretch of its schedule can be left out. `reduced`: its scenario was made smaller.
    """

    executions: int
    fewest: bool
    minimal: bool
    reduced: bool
    original_steps: int
    original_preemptions: int


@dataclass(frozen=True, slots=True)
class FoundFinding:
    """One bug that a campaign found: its smallest failing run, and how often it was seen.

    `first_schedule` counts from 1; `steps`, `preemptions`, `records` are those of the run in
    `repro`. `shrinking` says what it was shrunk from, None if that was not tried. `found_by` is
    what found it if not the strategy as a whole: of a portfolio, the member.
    """

    finding: Finding
    repro: Repro
    first_schedule: int
    count: int
    steps: int
    preemptions: int
    records: Sequence[Record] = ()
    shrinking: Shrinking | None = None
    found_by: str | None = None

    @property
    def original_steps(self) -> int:
        """Steps of the run as it was found."""
        return self.steps if self.shrinking is None else self.shrinking.original_steps

    @property
    def original_preemptions(self) -> int:
        """Preemptions of the run as it was found."""
        return self.preemptions if self.shrinking is None else self.shrinking.original_preemptions


class Proof(msgspec.Struct, frozen=True):
    """What an exhausted search without a finding says.

    ``proved``: the checks of the model are silent, else ``complaints`` has what they say. ``scope``
    and ``bounds`` are lines; ``checked``: executions that the checks looked at.
    """

    proved: bool
    statement: str
    scope: list[str]
    bounds: list[str]
    checked: int
    complaints: list[str]


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """Many executions. `exhausted`: every schedule of the scope was run.

    `states` are distinct states, `complaints` those of the checks of the model (empty: silent),
    both None where the checks did not run. `cut`: executions that passed a bound and were ended
    unjudged. `predicted` has a line for each lock-order inversion that no schedule closed,
    `refuted` for each that none can. `warnings` counts WARN sites that fired. `proof` is what an
    exhausted search without a finding has shown.
    `error` ended the campaign before its budget. `coverage`: orders of steps that were seen.
    `estimate`: how many schedules there are, where a search for all of them was not exhausted.
    """

    schedules: int
    steps: int
    seconds: float
    exhausted: bool
    states: int | None = None
    complaints: Sequence[str] | None = None
    findings: Sequence[FoundFinding] = ()
    predicted: Sequence[str] = ()
    refuted: Sequence[str] = ()
    warnings: Mapping[str, int] = field(default_factory=dict)
    proof: Proof | None = None
    cut: int = 0
    interrupted: bool = False
    error: Exception | None = None
    coverage: Coverage = field(default_factory=Coverage)
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """One replay. `matches`: same digest and verdict; else `departure` says where and why."""

    run: RunResult
    matches: bool
    departure: str | None = None


def log_verdict(run: RunResult) -> RunVerdict:
    """Return a run's last log line: its verdict, and what there is to tell of its finding."""
    last = RunVerdict(run.verdict, run.title, run.digest, run.steps, run.virtual_ns)
    found = run.finding
    if found is None:
        return last
    return msgspec.structs.replace(
        last,
        story=found.story,
        waits=found.waits,
        stacks=found.stacks,
        threads=found.threads,
        loop=found.loop,
    )


def step_records(records: Sequence[Record]) -> list[StepRecord]:
    """Return the steps among `records`, without the notes."""
    return [record for record in records if isinstance(record, StepRecord)]
