"""What probing executions tell a sampling strategy: the shared objects, and who uses them.

A *chain* (``Thread.chain``) is a thread and all that works for it: a processor that serves a call,
the guest that a thread runs. They wait for each other and hardly ever run at once, so a strategy
that gave each a priority of its own would spend most of its chances on orders that cannot be
(Ozkan, Majumdar, Niksic, Tabaei Befrouei, Weissenbacher: Randomized Testing of Distributed Systems
with Probabilistic Guarantees, OOPSLA 2018, order such chains rather than threads or events).

An object is *shared* when, in one probing execution, two chains declared operations on it of which
one writes. A strategy that attends to one shared object, or to some, has far fewer orders to
choose from than all steps have; which ones is drawn for each execution (Zhao, Wolff, Mathur,
Roychoudhury: Selectively Uniform Concurrency Testing, ASPLOS 2025, who choose the accesses of one
variable).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.strategies.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mshv_async.sim.op import Op
    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread

PROBES = 16
"""Executions that shared objects and lengths are measured on."""


class Contention:
    """The operations on each object in some executions, by chain. Objects and chains by name."""

    def __init__(self) -> None:
        self._executions = 0
        self._steps: dict[str, dict[str, int]] = {}
        self._longest: dict[str, int] = {}
        self._shared: set[str] = set()
        self._sorted: list[str] = []
        self._lengths: dict[frozenset[str], int] = {}  # answers that were given
        self._works: dict[frozenset[str], dict[str, float]] = {}

    def learn(self, rt: Runtime) -> None:
        """Count the operations of an execution."""
        self._executions += 1
        steps: dict[str, dict[str, int]] = {}
        written = set()
        for tid, op in rt.trace:
            name, chain = op.object_name, rt.all_threads[tid].chain
            chains = steps.setdefault(name, {})
            chains[chain] = chains.get(chain, 0) + 1
            if op.write:
                written.add(name)
        for name, chains in steps.items():
            known = self._steps.setdefault(name, {})
            for chain, count in chains.items():
                known[chain] = known.get(chain, 0) + count
            self._longest[name] = max(self._longest.get(name, 0), sum(chains.values()))
            if name and len(chains) > 1 and name in written:
                self._shared.add(name)
        self._sorted = sorted(self._shared)
        self._lengths = {}
        self._works = {}

    @property
    def shared(self) -> list[str]:
        """The names of the shared objects, sorted."""
        return self._sorted

    def longest(self, objects: Collection[str]) -> int:
        """Return the most operations that one execution had on each of the objects, summed."""
        asked = frozenset(objects)
        length = self._lengths.get(asked)
        if length is None:
            length = sum(n for name, n in self._longest.items() if attends(asked, name))
            self._lengths[asked] = length
        return length

    def work(self, objects: Collection[str]) -> dict[str, float]:
        """Return how many operations on the objects each chain has in an execution, on average."""
        asked = frozenset(objects)
        work = self._works.get(asked)
        if work is None:
            work = self._works[asked] = self._work(asked)
        return dict(work)

    def _work(self, objects: Collection[str]) -> dict[str, float]:
        work: dict[str, float] = {}
        for name, chains in self._steps.items():
            if attends(objects, name):
                for chain, count in chains.items():
                    work[chain] = work.get(chain, 0.0) + count / self._executions
        return work


def attends(objects: Collection[str], name: str) -> bool:
    """Say whether a strategy that attends to the objects does so to this one; to none: to all."""
    return not objects or name in objects


class Probing(Sampling):
    """Base of a strategy that attends to some shared objects, those in ``focus``.

    As long as it knows of none it attends to every operation. Execution ``i`` depends on the seed,
    ``i`` and the probing executions, which are to be played in order. ``taught``: somebody else
    looks at those, also at what other strategies played, and calls :meth:`learn`.
    """

    def __init__(self, seed: int, *, probes: int = PROBES, taught: bool = False) -> None:
        super().__init__(seed)
        self.probes = probes
        self.contention = Contention()
        self.focus: frozenset[str] = frozenset()
        self._taught = taught
        self._number = -1
        self._watches = False  # this execution is one to learn from
        self._rt: Runtime | None = None

    @property
    def probing(self) -> bool:
        """Whether this execution is a probing one."""
        return self._number < self.probes

    def begin(self, execution: int) -> bool:
        """Learn from the probing execution before, seed this one and draw what to attend to."""
        if not self._taught:
            if execution == 0:
                self.forget()
            elif self._rt is not None and execution > self._number:
                self.learn(self._rt)
        self._rt = None
        self._number = execution
        self._watches = self.probing and not self._taught
        super().begin(execution)
        shared = self.contention.shared
        self.focus = self.choose_focus(shared) if shared else frozenset()
        return True

    def choose_focus(self, shared: list[str]) -> frozenset[str]:
        """Draw the objects to attend to: one."""
        return frozenset([self._rng.choice(shared)])

    def forget(self) -> None:
        """Forget what was learnt: a campaign begins."""
        self.contention = Contention()

    def learn(self, rt: Runtime, *, own: bool = True) -> None:
        """Take in a probing execution; ``own``: it was this strategy that decided it."""
        del own
        self.contention.learn(rt)

    def see(self, rt: Runtime) -> None:
        """Remember the execution, to learn from it when it has ended."""
        if self._watches:
            self._rt = rt

    def one_of(
        self, enabled: Sequence[Thread], index: int, current: Thread | None, may: Sequence[int] = ()
    ) -> int:
        """Return ``index``, or that of another thread of its chain that can run (and ``may``).

        They are equally likely, but one that has just offered the processor is passed over.
        """
        chain = enabled[index].chain
        same = [i for i in may or range(len(enabled)) if enabled[i].chain == chain]
        if len(same) > 1 and current is not None and current.op.yields:
            same = [i for i in same if enabled[i] is not current]
        return same[0] if len(same) == 1 else same[int(self._rng.random() * len(same))]

    def attends(self, op: Op) -> bool:
        """Say whether the operation is on an object of the focus."""
        return attends(self.focus, op.object_name)
