"""two-phase: at some decision all failures and interference stop; what is under way must end.

A progress property of a faulty system: once nothing fails and nobody interferes any more, whatever
is under way ends in bounded steps. (Checked as such for protocols under partial synchrony since
Dwork, Lynch and Stockmeyer, JACM 1988, and by TigerBeetle's simulator, which ends each run so.) A
strategy decides until then, the fair scheduler from then on
(:func:`mshv_async.sim.liveness.settle`).

Strategies that sample settle after a number of decisions between which lie doubling distances, so
that short and long executions are both met in their midst; one that ends earlier is an ordinary
one. Those that enumerate settle at every decision between threads in turn: ``dfs`` at each of every
schedule, ``stateful`` once in each state, with no reduction, since a settling may come between any
two steps. The tape has one entry where it was chosen, and none where it was not.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from mshv_async.sim import liveness
from mshv_async.sim.liveness import SETTLE
from mshv_async.sim.statekey import state_key
from mshv_async.sim.strategies.base import CUT
from mshv_async.sim.strategies.dfs import Dfs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.strategies.base import Strategy
    from mshv_async.sim.thread import Thread

#: After fewer than two to this many decisions.
DOUBLINGS = 12


def settle(enabled: Sequence[Thread], current: Thread | None) -> int:
    """Begin the second phase at a decision; return the index of the thread that runs first."""
    rt = enabled[0].rt
    liveness.settle_by_choice(rt, rt.steps + 1)
    return enabled.index(liveness.round_robin(rt, list(enabled), current))


class TwoPhase:
    """Lets a sampling strategy decide, then settles; no execution that later ones depend on."""

    exhaustive = False

    def __init__(self, first: Strategy, seed: int) -> None:
        self.first = first
        self.prefix = first.prefix
        self.suspended = first.suspended
        self.records = first.records
        self.probes = first.probes
        self._seed = seed
        self._left = -1

    def begin(self, execution: int) -> bool:
        """Draw how many decisions the first phase has; from (seed, execution) alone."""
        rng = random.Random(f"settle {self._seed} {execution}")
        self._left = int(2 ** (rng.random() * DOUBLINGS)) if execution >= self.probes else -1
        return self.first.begin(execution)

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick as the strategy does, until it is time."""
        self._left -= 1
        if self._left == 0:
            return settle(enabled, current)
        return self.first.pick(enabled, current)

    def value(self, label: str, bound: int) -> int:
        """Pick as the strategy does."""
        return self.first.value(label, bound)

    def second_phase(self) -> bool:
        """Say that the second phase begins at the latest where the bound on progress is."""
        return True


class SettlingDfs(Dfs):
    """Every schedule, and every one that settles at some decision of it."""

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Go on first, then, from the same point, settle."""
        if self.value(SETTLE, 2):
            return settle(enabled, current)
        return super().pick(enabled, current)

    def second_phase(self) -> bool:
        """Say that the second phase begins at the latest where the bound on progress is."""
        return True


class SettlingStates(SettlingDfs):
    """Every state, and from each once what follows if it settles there.

    ``states`` counts those at which there was a choice of threads. With a bound on preemptions
    what is left of it is part of the state, and so is who ran last.
    """

    suspended = True

    def __init__(self, preemptions: int | None = None) -> None:
        super().__init__(preemptions)
        self._most_left: dict[bytes, int] = {}  # preemptions left at the best visit

    @property
    def states(self) -> int:
        """Return how many distinct states had a choice of threads."""
        return len(self._most_left)

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Follow the path; then go on from a new state, and settle in it."""
        if not self.repeating:
            rt = enabled[0].rt
            key = state_key(rt, rt.roots(), rt.opaque, current=self._limit is not None)
            left = self._limit - self._spent if self._limit is not None else 0
            if self._most_left.get(key, -1) >= left:
                return CUT
            self._most_left[key] = left
        return super().pick(enabled, current)
