"""Which steps of an execution its failure depends on: what the columns show, the rest is folded.

A dynamic slice, backward from the failing step, over happens-before (Lamport 1978; slices: Weiser,
ICSE 1981). In full it would hold every step before, for a thread does nothing without its last
step; a reader wants the race. So program order says only how far back a thread matters, and shown
are

- the failing step, and who last wrote each thing that it looked at, the oracle's look included;
- where two columns meet: a step, and the last one of another column that conflicts with it, if
  the failure lies in the future of both;
- of a lock that is shown, where its section begins and ends; of a page or an entry, who put it
  there; the access of a guest that all began with;
- each failure that was chosen, each preemption, and the steps on what the finding is about.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mshv_async.log.columns import column_of
from mshv_async.sim.accesses import READ, clash
from mshv_async.sim.digest import digest
from mshv_async.sim.op import conflict
from mshv_async.sim.strategies import Replay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mshv_async.explore.playing import Subject
    from mshv_async.sim import Runtime, Stage
    from mshv_async.sim.accesses import Footprint, Place
    from mshv_async.sim.op import Op

CONFLICTS_STEPS_MAX = 5_000
"""Longer executions go round and round; looking for who met whom takes the square of that."""

_ENDLESS = frozenset({"livelock", "starvation", "unkillable"})
"""What steps that go on and on come to: without a loop no few of them are to blame."""

PLOT_STEPS = 5
"""So many steps are shown at least, if there are as many that change something."""

_LOCKS = ("mutex.", "rwsem.", "spin.")

_LANDMARK = re.compile(
    r"hypercall\.(?!set_vp|get_vp|dispatch).*\.rep|free|mutex\.(un)?lock|reclaim\.scan"
    r"|notifier\.(insert|remove|start|set_seq)"
    r"|region\.(link|unlink|set_partition)"
)
"""Labels of steps that change the world: shown where too few others are (``PLOT_STEPS``)."""


class _Recorded(Replay):
    """Replays a tape and takes the footprints of its steps."""

    records = True


async def depends_on(
    subject: Subject, stage: Stage, rt: Runtime, *, seed: int
) -> frozenset[int] | None:
    """Return the steps, from 1, that the finding of ``rt`` depends on; None: not known.

    Plays its tape once more, recorded.
    """
    if rt.finding is None or rt.steps > CONFLICTS_STEPS_MAX:
        return None
    if rt.finding.verdict in _ENDLESS and rt.finding.loop is None:
        return None
    strategy = _Recorded(rt.tape)
    strategy.begin(0)
    again = await subject.play(stage, strategy, seed=seed)
    if digest(again) != digest(rt):
        return None
    return frozenset(index + 1 for index in Slice(again).steps())


class Slice:
    """The slice of one recorded execution with a finding; steps are indices of its trace."""

    def __init__(self, rt: Runtime) -> None:
        assert rt.finding is not None
        assert rt.recorder is not None
        self.rt = rt
        self.finding = rt.finding
        self.ops: list[Op] = [op for _, op in rt.trace]
        self.column = [column_of(rt.all_threads[tid].name) for tid, _ in rt.trace]
        self.footprints: list[Footprint | None] = rt.recorder.steps
        self.end = (rt.finding.step or rt.steps) - 1
        self.gfns = [
            int(name.removeprefix("gfn "), 16)
            for name in rt.finding.objects
            if name.startswith("gfn 0x")
        ]
        self.until: dict[str, int] = {}  # by column: the last step that the failure comes after

    def steps(self) -> set[int]:
        """Return what the failure depends on."""
        if self.finding.loop is not None:
            return self._of_a_loop(*self.finding.loop)
        found = {self.end} | set(self._written_before()) | self._freed()
        if self.finding.waits:
            found |= {self._last_of(column_of(thread)) for thread in self.finding.threads}
        for step in found:
            self._reaches(step)
        found |= self._on_objects()
        found |= {k for j in found for k in self._makers(j)}
        found |= self._chosen() | self._preemptions() | self._meetings()
        found |= {k for j in found for k in self._section(j)}
        found |= self._accesses()
        return found if len(self.until) > 1 else found | self._landmarks(found)

    def _of_a_loop(self, first: int, after: int) -> set[int]:
        """Return one turn of a loop, and what was chosen on the way into it."""
        return {self.end, *range(first - 1, after - 1)} | self._chosen() | self._preemptions()

    def _reaches(self, step: int) -> None:
        column = self.column[step]
        self.until[column] = max(self.until.get(column, -1), step)

    def _last_of(self, column: str) -> int:
        steps = [i for i in range(self.end + 1) if self.column[i] == column]
        return steps[-1] if steps else self.end

    def _written_before(self) -> Iterator[int]:
        """Yield who last wrote what the failing step looked at."""
        footprint = self.footprints[self.end]
        if footprint is None:
            return
        for place, accesses in footprint.accesses.items():
            if place[0] == "thread":
                continue
            for lo, hi, _ in accesses:
                writer = self._last_writer(place, lo, hi)
                if writer >= 0 and self._tells(writer, place, lo, hi):
                    yield writer

    def _tells(self, writer: int, place: Place, lo: int, hi: int) -> bool:
        """Say whether it helps to know who wrote something that the failing step looked at.

        In its own column only a page or an entry: what else it did there is no news. Of a table
        of which the finding names an entry, that is enough.
        """
        op = self.ops[writer]
        if _allocates(op) or (self.gfns and place[0].endswith(".slat")):
            return False
        if op.object_name == place[0] and op.label.startswith(_LOCKS):
            return False  # that a lock was free tells nothing
        return lo < hi or self.column[writer] != self.column[self.end]

    def _last_writer(self, place: Place, lo: int, hi: int) -> int:
        for index in range(self.end - 1, -1, -1):
            other = self.footprints[index]
            known = other.accesses.get(place) if other is not None else None
            if known and any(clash((lo, hi, READ), a) for a in known):
                return index
        return -1

    def _meetings(self) -> set[int]:
        """Return the last conflicting steps of two columns, the failure being in their future."""
        found: set[int] = set()
        for index in range(self.end, -1, -1):
            if index > self.until.get(self.column[index], -1) or self.ops[index].obj is None:
                continue
            for other in self._last_conflicts(index):
                found |= {index, other}
                self._reaches(other)
        return found

    def _last_conflicts(self, index: int) -> Iterator[int]:
        """Yield the last step of each other column that conflicts, back to the last write."""
        op, mine = self.ops[index], self.column[index]
        met: set[str] = set()
        for other in range(index - 1, -1, -1):
            if self.ops[other].obj is not op.obj:
                continue
            if self.column[other] == mine:
                if self.ops[other].write or not op.write:
                    return  # it has met the object since
                continue
            if not conflict(op, self.ops[other]) or _allocates(op):
                continue
            if self.column[other] not in met:
                met.add(self.column[other])
                yield other
            if self.ops[other].write and not self.ops[other].commutes:
                return

    def _makers(self, index: int) -> Iterator[int]:
        """Yield who put there what a step removes or looks at."""
        op = self.ops[index]
        if op.obj is None or op.hi <= op.lo:
            return
        for other in range(index - 1, -1, -1):
            if self.ops[other].write and conflict(op, self.ops[other]):
                yield other
                return

    def _section(self, index: int) -> Iterator[int]:
        """Yield the other end of the section that a lock's step begins or ends."""
        what = self.ops[index].label.rpartition(".")[2]
        if "lock" not in what:
            return
        leaves = "unlock" in what
        past = range(index - 1, -1, -1) if leaves else range(index + 1, self.end + 1)
        for other in past:
            op = self.ops[other]
            if op.obj is self.ops[index].obj and self.column[other] == self.column[index]:
                if ("unlock" in op.label) != leaves:
                    yield other
                return

    def _chosen(self) -> set[int]:
        return {step - 1 for step, choice in self.rt.choices if choice.value}

    def _preemptions(self) -> set[int]:
        """Return the steps at which a thread was passed over, and those before them."""
        at = [step - 1 for step in self.rt.preempted_at]
        return {i for step in at for i in (step - 1, step) if i >= 0}

    def _freed(self) -> set[int]:
        """Return where the objects were freed that the failing step, or the finding, is about."""
        footprint = self.footprints[self.end]
        names = {place[0] for place in footprint.accesses} if footprint is not None else set()
        about = sorted(names.union(self.finding.objects))
        return {
            index
            for index, op in enumerate(self.ops[: self.end])
            if op.label == "free"
            and any(f"{name}.".startswith(f"{op.object_name}.") for name in about)
        }

    def _on_objects(self) -> set[int]:
        found = set()
        for index, op in enumerate(self.ops[: self.end]):
            name = op.object_name
            slat = name.endswith(".slat") and any(
                op.lo <= gfn < max(op.hi, op.lo + 1) for gfn in self.gfns
            )
            if name in self.finding.objects or slat:
                found.add(index)
        return found

    def _landmarks(self, found: set[int]) -> set[int]:
        """Return what one thread alone did to the world, as far as that is needed for a plot."""
        told = [
            index
            for index, op in enumerate(self.ops[: self.end])
            if index not in found and _LANDMARK.fullmatch(op.label)
        ]
        missing = max(0, PLOT_STEPS - len(found))
        return set(told[len(told) - missing :]) if missing < len(told) else set(told)

    def _accesses(self) -> set[int]:
        """Return the last access of each guest that the failure comes after."""
        last: dict[str, int] = {}
        for index in range(self.end + 1):
            column = self.column[index]
            if self.ops[index].label.startswith("guest.") and index <= self.until.get(column, -1):
                last[column] = index
        return set(last.values())


def _allocates(op: Op) -> bool:
    """Say whether it takes or gives memory: in which order that is done tells nobody much."""
    return op.label.startswith(("alloc.", "page.free"))
