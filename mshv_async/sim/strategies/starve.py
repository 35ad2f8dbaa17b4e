"""starve: one thread at a time is kept from running, for stretches that double.

A bug that needs a thread to stand still in the middle of its work while the others do a lot is
out of reach of a random walk, which moves everybody. Here a victim is drawn, and it runs only if
nobody else can, for 1, 2, 4, … decisions; then another is drawn. Who runs among the others is
uniform. This is the unfair half of Musuvathi and Qadeer's fair scheduling (Fair Stateless Model
Checking, PLDI 2008): a thread that could run is made to wait, but never for ever.

The length of the first stretch is drawn for each execution, so that stretches end at other places
each time. Threads that work for the victim are kept from running with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.strategies.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread

#: The first stretch is drawn from 1 … so many decisions.
FIRST_MAX = 8
#: Stretches begin again at the first length when they have become longer than this.
LONGEST = 512


class Starve(Sampling):
    """A victim and the rest of its stretch; execution ``i`` depends on the seed and ``i`` alone."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._victim = ""
        self._left = 0
        self._first = 1
        self._stretch = 1

    def begin(self, execution: int) -> bool:
        """Seed the execution and draw its first stretch."""
        super().begin(execution)
        self._victim = ""
        self._left = 0
        self._first = self._stretch = 1 + self._rng.randrange(FIRST_MAX)
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick uniformly among all but the victim."""
        del current
        rng = self._rng
        chains = [thread.chain for thread in enabled]
        if self._left <= 0:
            self._victim = chains[int(rng.random() * len(chains))]
            self._left = self._stretch
            self._stretch = self._stretch * 2 if self._stretch < LONGEST else self._first
        self._left -= 1
        others = [i for i, chain in enumerate(chains) if chain != self._victim]
        others = others or list(range(len(enabled)))
        return others[int(rng.random() * len(others))]
