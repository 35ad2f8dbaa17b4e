"""deposit-accounting: whose the deposited pages are, and how many (spec.md 5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.hyperv import HvStatus
from mshv_async.oracle.invariant import LateInvariant
from mshv_async.oracle.observed import ALL_PFNS, Observed
from mshv_async.oracle.watching import watches
from mshv_async.sim import RangeMap, SharedDict, current, name_of
from mshv_async.sim.spans import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.host import HostMemory
    from mshv_async.hyperv import HvPartition, HvRequest, HvResult, PageRun
    from mshv_async.sim import Thread

_CHILD = (HvStatus.INSUFFICIENT_MEMORY, HvStatus.INSUFFICIENT_CONTIGUOUS_MEMORY)
_ROOT = (HvStatus.INSUFFICIENT_ROOT_MEMORY, HvStatus.INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY)


class DepositAccounting(LateInvariant):
    """Follows each page from DEPOSIT to WITHDRAW, and each call that ran short of memory.

    A page in a pool is the hypervisor's: the host does not free it, nobody deposits it again. A
    pool holds what was put in less what was taken out. Who is told which pool is short deposits
    there and nowhere else, until a call of his succeeds.
    """

    __slots__ = ("owned", "short", "unnumbered")
    invariant = "deposit-accounting"
    summary = "deposited = withdrawn + in the pool, which was the one short; none is freed there"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.owned: RangeMap[int] = RangeMap("oracle.deposited")  # pfn to partition id
        # By partition id: pages that set-up put in.
        self.unnumbered: SharedDict[int, int] = SharedDict("oracle.unnumbered", listed=False)
        # By thread: whose pool its last call found short.
        self.short: SharedDict[str, int] = SharedDict("oracle.short", listed=False)
        for partition in world.hv_partition.hv.partitions:
            self.unnumbered[partition.id] = _unnumbered(partition)
            for lo, hi, _ in partition.pool.frames.runs(0, ALL_PFNS):
                self.owned.set(lo, hi, partition.id)
        if self.owned:
            self.begin_watching()

    # -- whose pool is short ---------------------------------------------------------------

    @watches("hypercall.failed")
    def on_failed(self, request: HvRequest, result: HvResult) -> None:
        """Remember which pool a call found too small."""
        if result.status in _CHILD:
            self.short[current().name] = request.partition_id
            self.begin_watching()
        elif result.status in _ROOT:
            self.short[current().name] = self.world.hv_partition.hv.root.id
            self.begin_watching()

    @watches("slat.op", late=True)
    def on_operation(self, *operation: Any) -> None:
        """Forget it when the thread tries again, or something else."""
        del operation
        if self.short.worth_asking:
            self.short.pop(current().name)

    @watches("ioctl.begin", late=True)
    def on_ioctl(self, thread: Thread, name: str, *args: Any) -> None:
        """Forget it when the thread gave up and came again."""
        del name, args
        self.short.pop(thread.name)

    # -- pages -----------------------------------------------------------------------------

    @watches("pool.deposit")
    def on_deposit(self, partition: HvPartition, runs: Sequence[PageRun]) -> None:
        """Hand pages over, to the pool that was short if one was."""
        self.begin_watching()
        thread = current()
        caller = (thread.serves or thread).name
        wanted = self.short.pop(caller)
        if wanted not in (None, partition.id):
            self._violated(
                f"{caller}'s call found the pool of partition {wanted} too small",
                f"it deposits in the pool of {name_of(partition)}, which has enough",
                "the call will fail again, and each round takes pages from the host",
            )
        for length, pfn in runs:
            owned = self.owned.runs(pfn, pfn + length)
            if owned:
                lo, hi, owner = owned[0]
                self._violated(
                    f"pages {span(lo, hi)} are deposited in {name_of(partition)}",
                    f"they lie in the pool of partition {owner} already",
                )
            self.owned.set(pfn, pfn + length, partition.id)
        self._compare(partition, taken_out=False)

    @watches("pool.withdraw")
    def on_withdraw(self, partition: HvPartition, runs: Sequence[PageRun]) -> None:
        """Hand pages back."""
        for length, pfn in runs:
            for lo, hi, owner in self.owned.pieces(pfn, pfn + length):
                if owner != partition.id:
                    whose = "the host" if owner is None else f"partition {owner}"
                    self._violated(
                        f"pages {span(lo, hi)} are withdrawn from {name_of(partition)}",
                        f"they were {whose}'s",
                    )
            self.owned.clear(pfn, pfn + length)
        self._compare(partition, taken_out=True)

    def _compare(self, partition: HvPartition, *, taken_out: bool) -> None:
        mine = sum(b - a for a, b, owner in self.owned.runs(0, ALL_PFNS) if owner == partition.id)
        held = partition.pool.frames.total(0, ALL_PFNS)
        before, now = self.unnumbered.get(partition.id) or 0, _unnumbered(partition)
        if now != before:
            self.unnumbered[partition.id] = now
        if held != mine or not (0 <= now <= before if taken_out else now == before):
            self._violated(
                f"the pool of {name_of(partition)} holds {partition.pool.deposited} pages",
                f"{mine + before} were put in and not taken out",
            )

    @watches("frame.free", late=True)
    def on_free(self, host: HostMemory, pfn_lo: int, pfn_hi: int) -> None:
        """See to it that the host does not free what lies in a pool."""
        del host
        for lo, hi, owner in self.owned.runs(pfn_lo, pfn_hi):
            self._violated(
                f"{current().name} frees pages {span(lo, hi)}",
                f"they lie in the pool of partition {owner}",
                "whoever gets them next meets a fault at the first touch",
            )
            return

    def _violated(self, *story: str) -> None:
        here = self.world.rt.place().functions
        helper = [f for f in here if "deposit" in f or "withdraw" in f]
        self.world.violated(self.name, story, functions=helper[:1] or (self.world.caller(),))


def _unnumbered(partition: HvPartition) -> int:
    """Return how many pages of a pool have no frame number: set-up put them in."""
    return partition.pool.deposited - partition.pool.frames.total(0, ALL_PFNS)
