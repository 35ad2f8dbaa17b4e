"""fair: every thread that can run gets its turn, round robin.

Musuvathi and Qadeer, Fair Stateless Model Checking, PLDI 2008: what does not end under a fair
schedule is no fault of the schedule. No thread is overtaken for long here, as on a machine that is
not overloaded; so this finds what needs no bad luck at all, and little else.

Each execution draws the order in which threads come, and how many decisions a turn has, from 1 to
``TURN_MAX`` in powers of two. A thread that offers the processor (a retry) has had its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.strategies.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread

TURN_MAX = 64


class Fair(Sampling):
    """Whoever ran longest ago is next; execution ``i`` depends on the seed and ``i`` alone."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._turn = 1
        self._left = 0
        self._turns = 0
        self._latest: dict[int, float] = {}  # by tid, the turn that it had, or its place before

    def begin(self, execution: int) -> bool:
        """Draw the length of turns."""
        super().begin(execution)
        self._turn = 1 << self._rng.randrange(TURN_MAX.bit_length())
        self._left = self._turns = 0
        self._latest = {}
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Go on while the turn lasts, then with the thread whose turn is longest ago."""
        if self._left > 0 and current is not None and not current.op.yields and current in enabled:
            self._left -= 1
            return enabled.index(current)
        for thread in enabled:
            if thread.tid not in self._latest:
                self._latest[thread.tid] = -self._rng.random()
        tids = [thread.tid for thread in enabled]
        nxt = min(range(len(tids)), key=lambda index: self._latest[tids[index]])
        self._turns += 1
        self._latest[tids[nxt]] = self._turns
        self._left = self._turn - 1
        return nxt
