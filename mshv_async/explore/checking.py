"""Checks of the model itself, beside the search: footprints, races, and state keys.

They say whether silence can be trusted: a step that changes what it does not report, two accesses
that nothing orders, or two states of equal key that go on differently.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from mshv_async.explore.playing import play_tape
from mshv_async.sim.checkers import NullChecker
from mshv_async.sim.digest import step_lines
from mshv_async.sim.footprints import FootprintChecker
from mshv_async.sim.races import RaceChecker
from mshv_async.sim.statekey import state_key

if TYPE_CHECKING:
    from mshv_async.explore.playing import Subject
    from mshv_async.sim import Op, Runtime, Stage, Thread
    from mshv_async.sim.checkers import StepChecker


class StateWatch(NullChecker):
    """Takes the state's key before each decision, and follows what the decision leads to.

    Steps that an enumeration repeats are skipped.
    """

    def __init__(self, known: StateGraph) -> None:
        self.visits: list[tuple[bytes, int, int]] = []
        self._known = known
        self._key: bytes | None = None
        self._step: Step | None = None
        self._decided = 0

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Note who was chosen, among how many."""
        rt = thread.rt
        if self._step is not None:  # the timer fired, between two steps: no key was taken since
            self._step = self._key = None
        tape = rt.tape
        if self._key is not None:
            width = tape[-1][2] if len(tape) > self._decided else 1
            self._known.width(self._key, width, rt.steps)
            self._step = (self._key, thread.name, op.line())
        self._decided = len(tape)

    def step_ended(self, thread: Thread) -> None:
        """Take the key."""
        self._arrived(thread.rt)

    def _arrived(self, rt: Runtime) -> None:
        tape, step = rt.tape, self._step
        self._step = self._key = None
        if len(tape) + 1 < rt.strategy.prefix or rt.fair:
            return  # repeated; or the fair scheduler decides, whose own state is in no key
        choices = tuple(tape[self._decided :])
        key = self._known.expected(step, choices) if step is not None else None
        if key is None:
            key = state_key(rt, rt.roots(), rt.opaque)
            if step is not None:
                self._known.leads(step, choices, key, rt.steps)
        self._key = key
        self._decided = len(tape)
        self.visits.append((key, len(tape), rt.steps))

    def over(self, rt: Runtime) -> None:
        """Take the end of the execution for what the last decision led to."""
        title = _title(rt)
        if self._step is not None:
            self._known.leads(self._step, tuple(rt.tape[self._decided :]), title, rt.steps)
        elif self._key is not None:
            self._known.leads((self._key, "", "end"), (), title, rt.steps)

    def is_new(self, thread: Thread) -> bool:
        """Say whether this thread's step from here was not seen before, or has variants."""
        return self._key is not None and self._known.is_new(self._key, thread.name)


Step = tuple[bytes, str, str]
"""The state's key, and the name and operation of the thread that goes on from there."""


class StateGraph:
    """All states that were seen, and where each decision led: to one state, or one finding.

    A decision is a thread and the data choices of its step. If it leads from two visits of a key
    to different places, the key lacks something. Keys are dear, so of the decisions that were
    seen before only one in ``verify_every`` is followed up; that it is the same operation out of
    as many is looked at each time.
    """

    def __init__(self, verify_every: int) -> None:
        self.verify_every = verify_every
        self._expected = 0
        self.hidden: dict[str, None] = {}
        self._width: dict[bytes, int] = {}
        self._leads: dict[tuple[bytes, str, Any], tuple[str, bytes | str]] = {}
        self._begun: dict[tuple[bytes, str], bool] = {}

    def is_new(self, key: bytes, thread: str) -> bool:
        """Say whether the thread's step was not seen before, or makes data choices."""
        return self._begun.get((key, thread), True)

    def expected(self, step: Step, choices: tuple[Any, ...]) -> bytes | None:
        """Return where a decision leads as far as known; None: work it out."""
        key, thread, line = step
        known = self._leads.get((key, thread, choices))
        if known is None or known[0] != line or not isinstance(known[1], bytes):
            return None
        self._expected += 1
        return None if not self._expected % self.verify_every else known[1]

    def width(self, key: bytes, width: int, step: int) -> None:
        """Note among how many threads there is to choose."""
        known = self._width.setdefault(key, width)
        if known != width:
            self._differ(f"{known} and {width} threads can go on", step)

    def leads(self, step: Step, choices: tuple[Any, ...], to: bytes | str, number: int) -> None:
        """Note where a decision led."""
        key, thread, line = step
        self._begun[key, thread] = bool(choices)
        before = self._leads.setdefault((key, thread, choices), (line, to))
        if before[0] != line:
            self._differ(f"{thread} is at {before[0]!r} and {line!r}", number)
        elif before[1] != to:
            self._differ(f"{thread} leads elsewhere by {line!r}", number)

    def _differ(self, how: str, step: int) -> None:
        self.hidden.setdefault(f"two states of one key differ, the second at step {step}: {how}")


@dataclass
class ModelChecks:
    """All checkers over a campaign. ``silent`` is what an honest model leaves them.

    ``compare_every``: of the states met again by another way, one in so many is continued twice
    to the end, and compared; 0: none. ``verify_every``: see :class:`StateGraph`.
    """

    compare_every: int = 1
    verify_every: int = 16
    unreported: dict[tuple[str, str], str] = field(default_factory=dict)
    races: dict[tuple[str, str, str], str] = field(default_factory=dict)
    compared: int = 0
    _graph: StateGraph = field(init=False)
    _continued: list[str] = field(default_factory=list)
    _first: dict[bytes, Visit | None] = field(default_factory=dict)
    _again: int = 0

    def __post_init__(self) -> None:
        self._graph = StateGraph(self.verify_every)

    @property
    def states(self) -> int:
        """How many distinct states there were."""
        return len(self._first)

    @property
    def hidden(self) -> list[str]:
        """What state keys do not show, one line each."""
        return [*self._graph.hidden, *self._continued]

    @property
    def silent(self) -> bool:
        """Whether no checker has complained."""
        return not self.complaints()

    def complaints(self) -> list[str]:
        """Return all complaints, one line each."""
        return [*self.unreported.values(), *self.races.values(), *self.hidden]

    def for_execution(self) -> tuple[StepChecker, ...]:
        """Return fresh checkers for one execution."""
        watch = StateWatch(self._graph)
        return (watch, RaceChecker(), FootprintChecker(watch.is_new))

    async def judge(
        self, subject: Subject, stage: Stage, rt: Runtime, checkers: tuple[StepChecker, ...]
    ) -> None:
        """Take over what the checkers of one execution saw."""
        for checker in checkers:
            if isinstance(checker, RaceChecker):
                self.races.update({key: str(race) for key, race in checker.races.items()})
            elif isinstance(checker, FootprintChecker):
                self.unreported.update({k: str(found) for k, found in checker.missing.items()})
            elif isinstance(checker, StateWatch):
                checker.over(rt)
                await self._judge_states(subject, stage, rt, checker)

    async def _judge_states(
        self, subject: Subject, stage: Stage, rt: Runtime, watch: StateWatch
    ) -> None:
        tape = tuple(rt.tape)
        for key, position, step in watch.visits:
            here = (tape[:position], step)
            known = self._first.setdefault(key, here)
            if known is None or known[0] == here[0] or not self.compare_every:
                continue
            self._first[key] = None  # once is enough
            if not self._again % self.compare_every:
                await self._compare(subject, stage, known, here)
            self._again += 1

    async def _compare(self, subject: Subject, stage: Stage, one: Visit, other: Visit) -> None:
        self.compared += 1
        first = await play_tape(subject, stage, one[0])
        second = await play_tape(subject, stage, other[0])
        a, b = step_lines(first)[one[1] :], step_lines(second)[other[1] :]
        # How far it is to the bound at which an execution turns fair is not in the key.
        within = [
            rt.chosen_until - visit[1]
            for rt, visit in ((first, one), (second, other))
            if rt.chosen_until is not None
        ]
        if within:
            a, b = a[: min(within)], b[: min(within)]
        if a == b and (within or _title(first) == _title(second)):
            return
        at, left, right = next(
            (
                (n, x, y)
                for n, (x, y) in enumerate(zip_longest(a, b, fillvalue="the end"))
                if x != y
            ),
            (len(a), _title(first) or "clean", _title(second) or "clean"),
        )
        self._continued.append(
            f"two states of one key go on differently: after steps {one[1]} and {other[1]}, "
            f"then step +{at + 1}: {left!r} and {right!r}"
        )


Visit = tuple[tuple[Any, ...], int]
"""The decisions that led to a state, and how many steps that were."""


def _title(rt: Runtime) -> str:
    return rt.finding.title if rt.finding is not None else ""
