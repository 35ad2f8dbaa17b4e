"""dfs: every schedule, depth first, optionally with a bound on preemptions.

The bound is Musuvathi and Qadeer's (Iterative Context Bounding, PLDI 2007): a switch counts only
if the thread that ran could have gone on and did not offer the processor itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


class _Branch:
    """One decision on the path: the options not yet taken, the last one being the current."""

    __slots__ = ("bound", "options", "position")

    def __init__(self, options: list[int], bound: int) -> None:
        self.options = options
        self.position = 0
        self.bound = bound


class Dfs:
    """Enumerates; executions must be played in order, each to its end.

    ``preemptions``: None explores all schedules. ``exhausted`` is true once nothing is left.
    """

    exhaustive = True
    suspended = False
    records = False
    probes = 0

    def __init__(self, preemptions: int | None = None) -> None:
        self._limit = preemptions
        self._path: list[_Branch] = []
        self._depth = 0
        self._spent = 0
        self._ran = -1  # the tid of the thread that was picked last
        self.prefix = 0
        self.exhausted = False

    def begin(self, execution: int) -> bool:
        """Go back to the deepest branch that has an option left."""
        if execution > 0:
            while self._path and self._path[-1].position + 1 >= len(self._path[-1].options):
                self._path.pop()
            if not self._path:
                self.exhausted = True
                return False
            self._path[-1].position += 1
        self.prefix = max(len(self._path) - 1, 0)
        self._depth = 0
        self._spent = 0
        self._ran = -1
        return True

    @property
    def repeating(self) -> bool:
        """Whether the execution is still on the path of the one before."""
        return self._depth < len(self._path)

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Follow the path, then go on with the current thread first, else with the next in turn.

        In turn, so that the first schedules are such in which everybody gets somewhere.
        """
        stay = -1
        if current is not None and not current.op.yields and current in enabled:
            stay = enabled.index(current)
        if self.repeating:
            taken = self._follow(len(enabled))
        else:
            options = list(range(len(enabled)))
            if stay < 0:
                ran = self._ran
                options.sort(key=lambda index: enabled[index].tid <= ran)
            elif self._limit is not None and self._spent >= self._limit:
                options = [stay]
            else:
                options.remove(stay)
                options.insert(0, stay)
            taken = self._branch(options, len(enabled))
        if stay >= 0 and taken != stay:
            self._spent += 1
        self._ran = enabled[taken].tid
        return taken

    def value(self, label: str, bound: int) -> int:
        """Enumerate the values, the benign one first."""
        del label
        if self.repeating:
            return self._follow(bound)
        return self._branch(list(range(bound)), bound)

    def _follow(self, bound: int) -> int:
        branch = self._path[self._depth]
        assert branch.bound == bound, "an execution did not repeat its prefix"
        self._depth += 1
        return branch.options[branch.position]

    def _branch(self, options: list[int], bound: int) -> int:
        self._path.append(_Branch(options, bound))
        self._depth += 1
        return options[0]
