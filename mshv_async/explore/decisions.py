"""What each decision of a tape was: at which step, what was taken, and what was passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mshv_async.sim.current import current_or_none
from mshv_async.sim.liveness import SETTLE
from mshv_async.sim.strategies import Replay
from mshv_async.sim.tape import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


class Standing(msgspec.Struct, frozen=True):
    """Where a thread stands: its pending operation, and the driver's functions, innermost first.

    `lo` and `hi`: half-open range of the object's keys.
    """

    thread: str
    label: str
    object: str
    lo: int
    hi: int
    functions: list[str]


class DecisionSeen(msgspec.Struct, frozen=True):
    """One decision of an execution, taken at `step` (the step that it lets run, or runs in).

    `choice` is None where the decision is who runs next; then `passed_over` are the other threads
    that could have run.
    """

    step: int
    taken: Standing
    passed_over: list[Standing]
    choice: Decision | None


class Sighted(Replay):
    """Replays one tape and takes down, for each of its decisions, what there was to decide."""

    def begin(self, execution: int) -> bool:
        """Rewind."""
        self.seen: list[DecisionSeen] = []
        self._deciding: Thread | None = None
        return super().begin(execution)

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Take the next decision of the tape."""
        self._deciding = enabled[0]
        index = super().pick(enabled, current)
        self._deciding = None
        others = [standing(thread) for at, thread in enumerate(enabled) if at != index]
        step = enabled[index].rt.steps + 1
        self.seen.append(DecisionSeen(step, standing(enabled[index]), others, None))
        return index

    def second_phase(self) -> bool:
        """Follow the tape; that the second phase begins is a decision like any other."""
        begins = super().second_phase()
        if begins:
            self._chosen(Decision(SETTLE, 1, 2))
        return begins

    def value(self, label: str, bound: int) -> int:
        """Take the next decision of the tape."""
        value = super().value(label, bound)
        self._chosen(Decision(label, value, bound))
        return value

    def _chosen(self, choice: Decision) -> None:
        thread = self._deciding or current_or_none()
        assert thread is not None, "a choice is made by a thread, or between threads"
        step = thread.rt.steps + (self._deciding is not None)
        self.seen.append(DecisionSeen(step, standing(thread), [], choice))


def standing(thread: Thread) -> Standing:
    """Return where a thread stands now.

    One that works for another is in the functions of that one, unless it waits for work.
    """
    op = thread.op
    at_work = thread.serves is None or thread.enabled
    driver = thread.rt.place(thread).driver if at_work else ()
    return Standing(
        thread=thread.name,
        label=op.label,
        object=op.object_name if op.obj is not None else "",
        lo=op.lo,
        hi=op.hi,
        functions=list(driver),
    )
