"""starve: one thread at a time is kept from running, for stretches that double.

A bug that needs a thread to stand still in the middle of its work while the others do a lot is
out of reach of a random walk, which moves everybody. Here a victim is drawn, and it runs only if
nobody else can, for 1, 2, 4, … decisions; then another is drawn. Who runs among the others is
uniform. This is the unfair half of Musuvathi and Qadeer's fair scheduling (Fair Stateless Model
Checking, PLDI 2008): a thread that could run is made to wait, but never for ever.

The length of the first stretch is drawn for each execution, so that stretches end at other places
each time. Data choices are benign half of the time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread

#: The first stretch is drawn from 1 … so many decisions.
FIRST_MAX = 8
#: Stretches begin again at the first length when they have become longer than this.
LONGEST = 512


class Starve:
    """A victim and the rest of its stretch; execution ``i`` depends on the seed and ``i`` alone."""

    exhaustive = False
    prefix = 0
    suspended = False
    records = False
    probes = 0

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._victim = -1
        self._left = 0
        self._first = 1
        self._stretch = 1

    def begin(self, execution: int) -> bool:
        """Seed the execution and draw its first stretch."""
        self._rng = rng = random.Random((self._seed << 40) ^ execution)
        self._victim = -1
        self._left = 0
        self._first = self._stretch = 1 + rng.randrange(FIRST_MAX)
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick uniformly among all but the victim."""
        del current
        rng = self._rng
        if self._left <= 0:
            self._victim = enabled[int(rng.random() * len(enabled))].tid
            self._left = self._stretch
            self._stretch = self._stretch * 2 if self._stretch < LONGEST else self._first
        self._left -= 1
        others = [i for i, thread in enumerate(enabled) if thread.tid != self._victim]
        return others[int(rng.random() * len(others))]

    def value(self, label: str, bound: int) -> int:
        """Pick the benign value half of the time, else uniformly."""
        del label
        if self._rng.random() < 0.5:
            return 0
        return int(self._rng.random() * bound)
