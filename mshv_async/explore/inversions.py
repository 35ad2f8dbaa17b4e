"""Lock-order inversions that a search predicted: closed, refuted, or left listed (design.md 4).

A pair of lock classes that was taken in both orders is no deadlock yet: a third lock may keep the
two apart. A search that was exhausted without the deadlock refutes it. Else directed executions
try to bring it about; what they find is counted as any finding and replayed before it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mshv_async.explore.catalogue import make_strategy
from mshv_async.explore.numbered import play_schedule
from mshv_async.explore.tally import Tally
from mshv_async.sim.lockorder import pairs_of
from mshv_async.sim.strategies.closing import Closing, Taken
from mshv_async.sim.strategies.guided import course_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.explore.playing import Subject
    from mshv_async.sim import Runtime, Stage

EXECUTIONS = 60
EXECUTIONS_MAX = 1200
"""Directed executions for each inversion, and for all of them."""

FOUND_BY = "closing"


@dataclass(slots=True)
class Closer:
    """Tries to close what a campaign's tally predicts; adds the failures that it finds.

    Directed executions are no part of the search: they are not among its schedules, and a failure
    has a number after them. ``strategy`` and ``seed`` are those of the campaign, so that its
    schedules can be played again.
    """

    subject: Subject
    stage: Stage
    tally: Tally
    strategy: str
    seed: int
    enough: Callable[[], bool]
    played: int = 0

    async def close(self) -> None:
        """Play directed executions for each inversion that is still open, in a fixed order."""
        for cycle in self.tally.open_inversions():
            closing = Closing(self.seed, cycle, await self._taken(cycle))
            for execution in range(EXECUTIONS):
                if self.enough() or self.played >= EXECUTIONS_MAX:
                    return
                closing.begin(execution)
                rt = await self.subject.play(self.stage, closing, seed=self.seed)
                self._count(rt)
                self.tally.tried[cycle] = execution + 1
                if self.tally.closed.issuperset(cycle):
                    break

    async def _taken(self, cycle: tuple[str, ...]) -> list[Taken]:
        """Return, for each pair of the cycle, the first execution that took it."""
        if make_strategy(self.strategy, seed=self.seed).exhaustive:
            return []
        found = []
        for pair in pairs_of(cycle):
            strategy = make_strategy(self.strategy, seed=self.seed)
            schedule = self.tally.edge_schedules[pair]
            rt = await play_schedule(self.subject, self.stage, strategy, schedule, seed=self.seed)
            if pair in rt.lock_order.edges:
                found.append(Taken(rt.lock_order.edges[pair].thread, course_of(rt)))
        return found

    def _count(self, rt: Runtime) -> None:
        """Take over what an execution came to, if it failed."""
        self.played += 1
        if rt.finding is None:
            return
        one = Tally()
        one.count(rt, self.tally.schedules + self.played)
        failed = {t: replace(run, found_by=FOUND_BY) for t, run in one.findings.items()}
        self.tally.merge(Tally(findings=failed, closed=one.closed))
