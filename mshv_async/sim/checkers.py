"""What may watch every step of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from mshv_async.sim.op import Op
    from mshv_async.sim.thread import Thread


class StepChecker(Protocol):
    """Called at the edges of each step and for each access inside it; never changes a world."""

    def spawned(self, thread: Thread, by: Thread | None) -> None:
        """Learn that a thread was created."""

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Learn that the thread was chosen; its step begins with the operation."""

    def touched(self, obj: Any, what: str, write: bool, lo: int, hi: int) -> None:
        """Learn that the current step reads or writes part of an object."""

    def step_ended(self, thread: Thread) -> None:
        """Learn that the thread reached its next point."""


class NullChecker:
    """A step checker that looks at nothing: base of those that need only some of its calls."""

    __slots__ = ()

    def spawned(self, thread: Thread, by: Thread | None) -> None:
        """Nothing is to be done."""

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Nothing is to be done."""

    def touched(self, obj: Any, what: str, write: bool, lo: int, hi: int) -> None:
        """Nothing is to be done."""

    def step_ended(self, thread: Thread) -> None:
        """Nothing is to be done."""


@runtime_checkable
class ShadowChecker(StepChecker, Protocol):
    """One that also asks what the observers of a step look at and keep."""

    def observed(self, obj: Any, what: str, write: bool, lo: int, hi: int) -> None:
        """Learn of an access that is made while the step is judged, and no part of the model."""
