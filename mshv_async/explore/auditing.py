"""Is an execution the same when it is played again? If not: from which step on, and in which code.

A driver, or the model, that takes anything from outside the execution (random numbers, the clock,
the order of a set, what an earlier execution left behind) cannot be replayed, and what is found in
it is not to be believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

from mshv_async.explore.results import NotDeterministic
from mshv_async.sim.checkers import NullChecker
from mshv_async.sim.digest import digest, step_lines
from mshv_async.sim.stacks import Place, place_of
from mshv_async.sim.strategies import Replay

if TYPE_CHECKING:
    from mshv_async.explore.playing import Subject
    from mshv_async.sim import Op, Runtime, Stage, Thread
    from mshv_async.sim.strategies import Strategy


@dataclass(slots=True)
class CallSites(NullChecker):
    """A checker that notes for each step which code it comes from: ``places[n]`` of step n + 1."""

    places: list[Place | None] = field(default_factory=list)

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Note where the thread stands, that is before the operation that it declared."""
        del op
        self.places.append(place_of(thread, _is_drivers))

    def at(self, step: int) -> str:
        """Return the call site of a step, or of the last one that is known before it."""
        known = [place for place in self.places[:step] if place is not None]
        return f" in {known[-1]}" if known else ""


def _is_drivers(module: str) -> bool:
    """Say whether a module is the driver's, or a user's."""
    return module.startswith("mshv_async.driver") or not module.startswith("mshv_async.")


async def audit(
    rt: Runtime,
    sites: CallSites,
    shadow: Strategy,
    subject: Subject,
    stage: Stage,
    *,
    seed: int,
    schedule: int,
) -> None:
    """Play an execution twice more: as ``shadow`` plays it by itself, and from its tape.

    ``sites`` are those of the execution. ``shadow`` is another strategy of the same kind and seed
    that has seen as much, and is ready for this execution. Raises NotDeterministic, with the first
    step that differs.
    """
    replay = Replay(tuple(rt.tape))
    replay.begin(0)
    for strategy in (shadow, replay):
        others = CallSites()
        again = await subject.play(stage, strategy, seed=seed, checkers=(others,))
        how = difference(rt, again, sites, others)
        if how is not None:
            raise NotDeterministic(f"execution {schedule} {how}")


def difference(rt: Runtime, again: Runtime, one_at: CallSites, other_at: CallSites) -> str | None:
    """Say where an execution, played again, first differs, and in which code; None: nowhere.

    Of one that the strategy cut short only the steps before that can be compared. Call sites are
    told as far as they were taken.
    """
    one, other = step_lines(rt), step_lines(again)
    if rt.cut is not None:
        other = other[: len(one)]
    for step, (a, b) in enumerate(zip_longest(one, other), start=1):
        if a != b:
            first = "the end" if a is None else f"{a!r}{one_at.at(step)}"
            then = "the end" if b is None else f"{b!r}{other_at.at(step)}"
            return f"departs at step {step}: {first} then {then}"
    if again.departure is not None:
        step = again.departure.step
        return f"departs at step {step}: {again.departure.why}{other_at.at(step)}"
    if rt.cut is not None:
        return None
    if digest(rt) != digest(again):
        return f"takes other decisions{other_at.at(len(one))}"
    titles = [found.title if found else "clean" for found in (rt.finding, again.finding)]
    if titles[0] != titles[1]:
        return f"comes to {titles[0]!r} then to {titles[1]!r}{other_at.at(len(one))}"
    return None
