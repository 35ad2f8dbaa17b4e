"""Checks of the model itself, beside the search: footprints, races, and state keys.

They say whether silence can be trusted: a step that changes what it does not report, two accesses
that nothing orders, or two states of equal key that go on differently.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mshv_async.sim.digest import step_lines
from mshv_async.sim.footprints import FootprintChecker
from mshv_async.sim.races import RaceChecker
from mshv_async.sim.statekey import state_key
from mshv_async.sim.strategies import Replay

if TYPE_CHECKING:
    from mshv_async.explore.playing import Subject
    from mshv_async.sim import Op, Runtime, Stage, Thread
    from mshv_async.sim.checkers import StepChecker


class StateCounter:
    """Takes the state's key before each decision, and where on the tape that was."""

    def __init__(self) -> None:
        self.visits: list[tuple[bytes, int, int]] = []
        self._rt: Runtime | None = None

    def spawned(self, thread: Thread, by: Thread | None) -> None:
        """Learn the runtime."""
        del by
        self._rt = thread.rt

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Nothing is to be done."""

    def touched(self, obj: Any, what: str, write: bool, lo: int, hi: int) -> None:
        """Nothing is to be done."""

    def step_ended(self, thread: Thread) -> None:
        """Take the key."""
        rt = thread.rt
        if len(rt.tape) < rt.strategy.prefix:
            return
        self.visits.append((state_key(rt, rt.roots(), rt.opaque), len(rt.tape), rt.steps))


@dataclass
class ModelChecks:
    """All checkers over a campaign. ``silent`` is what an honest model leaves them.

    ``compare_every``: of the states met again by another way, one in so many is continued twice
    and compared; 0: none.
    """

    compare_every: int = 16
    states: set[bytes] = field(default_factory=set)
    unreported: dict[tuple[str, str], str] = field(default_factory=dict)
    races: dict[tuple[str, str, str], str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    compared: int = 0
    _first: dict[bytes, tuple[tuple[Any, ...], int]] = field(default_factory=dict)
    _again: int = 0

    @property
    def silent(self) -> bool:
        """Whether no checker has complained."""
        return not (self.unreported or self.races or self.hidden)

    def complaints(self) -> list[str]:
        """Return all complaints, one line each."""
        return [*self.unreported.values(), *self.races.values(), *self.hidden]

    def for_execution(self) -> tuple[StepChecker, ...]:
        """Return fresh checkers for one execution."""
        return (StateCounter(), RaceChecker(), FootprintChecker())

    async def judge(
        self, subject: Subject, stage: Stage, rt: Runtime, checkers: tuple[StepChecker, ...]
    ) -> None:
        """Take over what the checkers of one execution saw."""
        for checker in checkers:
            if isinstance(checker, RaceChecker):
                self.races.update({key: str(race) for key, race in checker.races.items()})
            elif isinstance(checker, FootprintChecker):
                self.unreported.update({k: str(found) for k, found in checker.missing.items()})
            elif isinstance(checker, StateCounter):
                await self._judge_states(subject, stage, rt, checker)

    async def _judge_states(
        self, subject: Subject, stage: Stage, rt: Runtime, counter: StateCounter
    ) -> None:
        tape = tuple(rt.tape)
        for key, position, step in counter.visits:
            self.states.add(key)
            prefix = tape[:position]
            known = self._first.setdefault(key, (prefix, step))
            if known[0] == prefix or not self.compare_every:
                continue
            self._again += 1
            if not self._again % self.compare_every:
                await self._compare(subject, stage, known, (prefix, step))

    async def _compare(
        self,
        subject: Subject,
        stage: Stage,
        one: tuple[tuple[Any, ...], int],
        other: tuple[tuple[Any, ...], int],
    ) -> None:
        self.compared += 1
        first = await self._continue(subject, stage, one[0])
        second = await self._continue(subject, stage, other[0])
        a, b = step_lines(first)[one[1] :], step_lines(second)[other[1] :]
        if a == b and _title(first) == _title(second):
            return
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), -1)
        self.hidden.append(
            f"two states of one key go on differently: after steps {one[1]} and {other[1]}, "
            f"then step +{at + 1}: {a[at] if a else 'end'!r} and {b[at] if b else 'end'!r}"
        )

    async def _continue(self, subject: Subject, stage: Stage, prefix: tuple[Any, ...]) -> Runtime:
        strategy = Replay(prefix)
        strategy.begin(0)
        return await subject.play(stage, strategy)


def _title(rt: Runtime) -> str:
    return rt.finding.title if rt.finding is not None else ""
