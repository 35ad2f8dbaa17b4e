"""What executions have come to, in numbers that add up: of a batch, a shard, or a campaign.

A tally depends on which executions it counted, never on their order: batches of several workers,
shards of several machines and the parts of an interrupted campaign merge to the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mshv_async.explore.coverage import Coverage
from mshv_async.sim.digest import digest
from mshv_async.sim.lockorder import LockOrder, pairs_of
from mshv_async.sim.runtime import SEEN

if TYPE_CHECKING:
    from mshv_async.sim import Runtime, Tape


@dataclass(frozen=True, slots=True)
class FailingRun:
    """One title: how often it was seen, and its shortest run as it was found.

    ``first_schedule`` and ``schedule``, that of the shortest run, count from 1. ``found_by``: the
    member of a portfolio whose run it is.
    """

    verdict: str
    title: str
    first_schedule: int
    count: int
    schedule: int
    steps: int
    preemptions: int
    digest: str
    tape: Tape
    found_by: str | None = None

    def merged(self, other: FailingRun) -> FailingRun:
        """Return the shorter of two runs of one title, the earlier of equals, with both counts."""
        best = min(self, other, key=lambda run: (run.steps, run.schedule))
        first = min(self.first_schedule, other.first_schedule)
        return replace(best, first_schedule=first, count=self.count + other.count)


@dataclass(slots=True)
class Tally:
    """Sums, and the first or the shortest of what was seen; ``closed``: classes of deadlocks.

    ``edge_schedules``: the first execution, from 1, that took each pair of lock classes.
    ``tried``: how many directed executions did not close an inversion.
    """

    schedules: int = 0
    steps: int = 0
    cut: int = 0
    fair: int = 0
    findings: dict[str, FailingRun] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    lock_order: LockOrder = field(default_factory=LockOrder)
    edge_schedules: dict[tuple[str, str], int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)  # membership only
    coverage: Coverage = field(default_factory=Coverage)
    tried: dict[tuple[str, ...], int] = field(default_factory=dict)

    def count(self, rt: Runtime, schedule: int) -> None:
        """Count one execution, its number from 1. Each is counted here, and only here."""
        self.schedules += 1
        self.steps += rt.steps
        self.cut += rt.cut not in (None, SEEN)
        # A second phase that was chosen has no choices of its own: it is fair by definition.
        self.fair += rt.fair and (rt.settled_at is None or rt.suspected is not None)
        self._edges(rt.lock_order, dict.fromkeys(rt.lock_order.edges, schedule))
        self.coverage.update(rt, schedule)
        for site, times in rt.warnings.items():
            self.warnings[site] = self.warnings.get(site, 0) + times
        if rt.finding is not None:
            if rt.finding.verdict == "deadlock":
                self.closed.update(lock.cls for t in rt.all_threads for lock in t.held)
            self._failed(rt, schedule)

    def merge(self, other: Tally) -> None:
        """Add what other executions have come to."""
        self.schedules += other.schedules
        self.steps += other.steps
        self.cut += other.cut
        self.fair += other.fair
        self._edges(other.lock_order, other.edge_schedules)
        for site, times in other.warnings.items():
            self.warnings[site] = self.warnings.get(site, 0) + times
        self.closed |= other.closed
        self.coverage.merge(other.coverage)
        for run in other.findings.values():
            self._failure(run)

    def _failed(self, rt: Runtime, schedule: int) -> None:
        assert rt.finding is not None
        known = self.findings.get(rt.finding.title)
        if known is not None and known.steps <= rt.steps:
            self.findings[known.title] = replace(known, count=known.count + 1)
        else:
            self._failure(failing_run(rt, schedule))

    def _failure(self, run: FailingRun) -> None:
        known = self.findings.get(run.title)
        self.findings[run.title] = run if known is None else known.merged(run)

    def _edges(self, order: LockOrder, schedules: dict[tuple[str, str], int]) -> None:
        mine = self.edge_schedules
        for pair, edge in order.edges.items():
            schedule = schedules[pair]
            if mine.setdefault(pair, schedule) >= schedule:
                mine[pair] = schedule
                self.lock_order.edges[pair] = edge

    def open_inversions(self) -> list[tuple[str, ...]]:
        """Return the cycles of lock classes that no deadlock found has closed."""
        return [c for c in self.lock_order.inversions() if not self.closed.issuperset(c)]

    def predicted(self) -> list[str]:
        """Return a line for each open inversion.

        Each edge names the schedule that first took it; seed and number play it again.
        """
        return [self._inversion(cycle) for cycle in self.open_inversions()]

    def _inversion(self, cycle: tuple[str, ...]) -> str:
        edges = "; ".join(
            f"{self.lock_order.edges[pair].thread} takes {pair[1]} under {pair[0]} "
            f"(schedule {self.edge_schedules[pair]})"
            for pair in pairs_of(cycle)
        )
        tried = self.tried.get(cycle)
        return f"{edges}; {tried} directed executions did not close it" if tried else edges


def failing_run(rt: Runtime, schedule: int) -> FailingRun:
    """Return what is kept of a failing execution, its number from 1."""
    assert rt.finding is not None
    return FailingRun(
        verdict=rt.finding.verdict,
        title=rt.finding.title,
        first_schedule=schedule,
        count=1,
        schedule=schedule,
        steps=rt.steps,
        preemptions=len(rt.preempted_at),
        digest=digest(rt),
        tape=rt.tape,
    )
