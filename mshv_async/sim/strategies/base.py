"""The interface of a strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


CUT = -1
"""What ``pick`` returns instead of an index: nothing new can follow, end the execution here."""


class Strategy(Protocol):
    """Decides for one execution after the other.

    ``exhaustive``: when :meth:`begin` returns False, every schedule of the scope was explored.
    ``prefix``: how many decisions this execution repeats from an earlier one, so that checkers
    need not look at those steps again. ``suspended``: it looks into the threads when it picks, so
    decisions are to be taken while every one of them is suspended. ``records``: it needs the
    footprints of steps (``rt.recorder``). ``probes``: so many of the first executions the later
    ones depend on; all others depend on the seed and their number alone.
    """

    exhaustive: bool
    prefix: int
    suspended: bool
    records: bool
    probes: int

    def begin(self, execution: int) -> bool:
        """Prepare the execution of this number, from 0; False: nothing is left to explore."""

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Return the index of the thread that runs next; ``CUT`` ends the execution here.

        ``enabled`` has at least two threads in the order of their tids, each with its pending
        operation in ``op``; ``current`` ran last (None: it finished), and may not be enabled.
        """

    def value(self, label: str, bound: int) -> int:
        """Return the value of a data choice, ``0 <= value < bound``."""
