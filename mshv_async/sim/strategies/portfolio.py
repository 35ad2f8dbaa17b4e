"""portfolio: several sampling strategies take turns, each being good at what the others miss.

Which one decides an execution follows from its number alone, in a fixed cycle: nothing that was
found so far changes it, so that any number of workers runs the same executions. (Huberman, Lukose,
Hogg: An Economics Approach to Hard Computational Problems, Science 1997, for why a mixture beats
its best member where nobody knows which that is: at worst it costs the share that the member has.)

The cycle was chosen by measurement over the bug scenarios (``tests/benchmarks/power.py``). Most of
it goes to the strategies that attend to shared objects; a random walk, which attends to nothing,
stays for what no declared operation tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.strategies.pct import Pct
from mshv_async.sim.strategies.pos import Pos
from mshv_async.sim.strategies.random_walk import RandomWalk
from mshv_async.sim.strategies.urw import Urw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.strategies.base import Strategy
    from mshv_async.sim.thread import Thread

CYCLE = (
    *("pct", "urw", "urw", "pos", "urw", "pos"),
    *("pct", "urw", "urw", "pos", "urw", "pos"),
    "random",
)
PROBING_CYCLES = 3
"""The members learn from everybody's executions in so many cycles."""


class Portfolio:
    """Plays the members' own executions 0, 1, 2, … in turn."""

    exhaustive = False
    prefix = 0
    suspended = False
    records = False
    probes = PROBING_CYCLES * len(CYCLE)

    def __init__(self, seed: int) -> None:
        own = {name: PROBING_CYCLES * CYCLE.count(name) for name in CYCLE}
        self._learning: dict[str, Urw | Pct | Pos] = {
            "urw": Urw(seed, probes=own["urw"], taught=True),
            "pct": Pct(seed, probes=own["pct"], taught=True),
            "pos": Pos(seed, probes=own["pos"], taught=True),
        }
        self.members: dict[str, Strategy] = {**self._learning, "random": RandomWalk(seed)}
        self._playing = CYCLE[0]
        self._number = -1
        self._rt: Runtime | None = None

    def begin(self, execution: int) -> bool:
        """Have all learn from the probing execution before; let the one whose turn it is begin."""
        if execution == 0:
            for member in self._learning.values():
                member.forget()
        elif self._rt is not None and execution > self._number:
            for name, member in self._learning.items():
                member.learn(self._rt, own=name == self._playing)
        self._rt = None
        self._number = execution
        self._playing, number = turn_of(execution)
        return self.members[self._playing].begin(number)

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick as the member does."""
        if self._number < self.probes:
            self._rt = enabled[0].rt
        return self.members[self._playing].pick(enabled, current)

    def value(self, label: str, bound: int) -> int:
        """Pick as the member does."""
        return self.members[self._playing].value(label, bound)


def turn_of(execution: int) -> tuple[str, int]:
    """Return which member plays an execution, and which of its own it is for that member."""
    cycles, place = divmod(execution, len(CYCLE))
    name = CYCLE[place]
    return name, cycles * CYCLE.count(name) + CYCLE[:place].count(name)
