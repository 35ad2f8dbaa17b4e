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

    from mshv_async.sim.strategies.base import Strategy
    from mshv_async.sim.thread import Thread

CYCLE = ("urw", "pct", "pos", "urw", "pct", "pos", "urw", "random")


class Portfolio:
    """Plays each member's own executions 0, 1, 2, … in turn, with the member's probes first."""

    exhaustive = False
    prefix = 0
    suspended = False
    records = False

    def __init__(self, seed: int) -> None:
        self.members: dict[str, Strategy] = {
            "urw": Urw(seed),
            "pct": Pct(seed),
            "pos": Pos(seed),
            "random": RandomWalk(seed),
        }
        self._playing = self.members[CYCLE[0]]
        self.probes = _probes(self.members)

    def begin(self, execution: int) -> bool:
        """Let the member whose turn it is begin."""
        name, number = turn_of(execution)
        self._playing = self.members[name]
        return self._playing.begin(number)

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick as the member does."""
        return self._playing.pick(enabled, current)

    def value(self, label: str, bound: int) -> int:
        """Pick as the member does."""
        return self._playing.value(label, bound)


def turn_of(execution: int) -> tuple[str, int]:
    """Return which member plays an execution, and which of its own it is for that member."""
    cycles, place = divmod(execution, len(CYCLE))
    name = CYCLE[place]
    return name, cycles * CYCLE.count(name) + CYCLE[:place].count(name)


def _probes(members: dict[str, Strategy]) -> int:
    """Return how many executions it takes until each member has played its probing ones."""
    execution = 0
    wanted = {name for name, member in members.items() if member.probes}
    while wanted:
        name, number = turn_of(execution)
        if number + 1 >= members[name].probes:
            wanted.discard(name)
        execution += 1
    return execution
