"""The hypervisor: its partitions, its interface to the root, and set-up without steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from mshv_async.hyperv.codes import (
    ROOT_PARTITION_ID,
    HvCall,
    PartitionState,
    SchedulerType,
)
from mshv_async.hyperv.engine import HypercallEngine
from mshv_async.hyperv.interrupt import InterruptHandler, RootInterrupts
from mshv_async.hyperv.partition import HvPartition
from mshv_async.hyperv.pool import PageRun, PoolCosts
from mshv_async.hyperv.request import HvRequest, HvResult, RegisterValue
from mshv_async.hyperv.slat_rules import DEFAULT_RULES, SlatRules, check_rules
from mshv_async.sim import Grain, Shared, SharedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mshv_async.hyperv.lp import LogicalProcessor


class RootMemory(Protocol):
    """Content of host pages, as far as the hypervisor changes it."""

    def zero(self, pfn_lo: int, pfn_hi: int) -> None:
        """Clear pages that come back from a pool."""
        ...


class Hypervisor(Shared):
    """All that the hypervisor keeps.

    ``scheduler``: ROOT, or any other for a hypervisor that schedules by itself. ``grain``: the
    GFNs that programs name, where elements of rep calls are not grouped. ``named_reps``: indices
    of elements that injections name, for the same end. ``costs``: pool pages that calls draw.
    ``slat_rules``: open points of the table. ``tables``: whose pool pays for table pages.
    ``contiguous``: table pages are taken in groups of so many consecutive pages (E10).
    ``root_pool``: free pages of the root's own pool at the start. ``failed_deposit``: the pages
    that a DEPOSIT took before it failed are kept, or returned (bugs.md E06). ``root_memory``:
    where withdrawn pages are cleared.
    """

    __slots__ = (
        "contiguous",
        "costs",
        "engine",
        "failed_deposit",
        "grain",
        "interrupts",
        "named_reps",
        "next_id",
        "partitions",
        "processors",
        "root",
        "root_memory",
        "scheduler",
        "slat_rules",
        "tables",
    )
    _const = (
        "contiguous",
        "costs",
        "engine",
        "failed_deposit",
        "grain",
        "interrupts",
        "named_reps",
        "processors",
        "root",
        "root_memory",
        "scheduler",
        "slat_rules",
        "tables",
    )
    _sync = True
    _not_state = (
        "contiguous",
        "failed_deposit",
        "root_memory",
        "slat_rules",
        "tables",
    )  # never change

    def __init__(
        self,
        *,
        scheduler: SchedulerType = SchedulerType.ROOT,
        grain: Grain | None = None,
        named_reps: Iterable[int] = (),
        costs: PoolCosts | None = None,
        slat_rules: SlatRules = DEFAULT_RULES,
        tables: Literal["partition", "root"] = "partition",
        contiguous: int = 1,
        root_pool: int = 0,
        failed_deposit: Literal["kept", "returned"] = "kept",
        root_memory: RootMemory | None = None,
        name: str = "hypervisor",
    ) -> None:
        super().__init__(name)
        check_rules(slat_rules)
        self.scheduler = scheduler
        self.grain = grain if grain is not None else Grain(())
        self.named_reps = tuple(sorted(set(named_reps)))
        self.costs = costs or PoolCosts()
        self.slat_rules = slat_rules
        self.tables = tables
        self.contiguous = contiguous
        self.failed_deposit = failed_deposit
        self.root_memory = root_memory
        self.interrupts = RootInterrupts(f"{name}.interrupts")
        self.processors: SharedDict[str, LogicalProcessor] = SharedDict(
            f"{name}.processors", listed=False
        )
        self.engine = HypercallEngine(self)
        self.partitions: tuple[HvPartition, ...] = ()
        self.next_id = ROOT_PARTITION_ID
        self.root = self.new_partition(parent=0)
        self.root.state = PartitionState.ACTIVE
        self.root.pool.add(root_pool)

    # -- hypercalls ------------------------------------------------------------------------

    async def call(
        self,
        code: HvCall,
        partition_id: int,
        *,
        reps: int = 0,
        start: int = 0,
        gfn: int = 0,
        flags: int = 0,
        pfns: Sequence[PageRun] = (),
        vp_index: int = 0,
        registers: Sequence[RegisterValue] = (),
    ) -> HvResult:
        """Issue one hypercall on the current thread and spin for its result.

        See :class:`HvRequest` for the fields. A rep call may return SUCCESS with ``done`` below
        ``reps``: the caller reissues it with ``start = done``. ``hypercall.<name>`` is the name
        for injected failures, ``<name>`` the code's in lower case.
        """
        return await self.engine.call(
            HvRequest(
                code,
                partition_id,
                reps,
                start,
                gfn,
                flags,
                tuple(pfns),
                vp_index,
                tuple(registers),
            )
        )

    def set_isr(self, handler: InterruptHandler) -> None:
        """Register the root's interrupt handler; it runs on the actor ``hv-isr``, atomically."""
        self.interrupts.handler = handler

    # -- partitions ------------------------------------------------------------------------

    def partition(self, id: int) -> HvPartition | None:
        """Return the partition of that id, or None."""
        for partition in self.partitions:
            if partition.id == id:
                return partition
        return None

    def new_partition(self, *, parent: int) -> HvPartition:
        """Add an uninitialised partition; ids are never used again."""
        partition = HvPartition(self.next_id, parent, self)
        self.next_id += 1
        self.partitions += (partition,)
        return partition

    def forget(self, partition: HvPartition) -> None:
        """Drop a deleted partition."""
        self.partitions = tuple(p for p in self.partitions if p is not partition)

    def accessible_frames(self) -> list[tuple[int, int]]:
        """Return the host pages that some partition can access, as separate runs in order."""
        found: list[tuple[int, int]] = []
        for lo, hi in sorted(
            (entry.pfn, entry.pfn + end - first)
            for partition in self.partitions
            for first, end, entry in partition.slat.runs(0, 1 << 52)
            if entry.rights
        ):
            if found and lo <= found[-1][1]:
                found[-1] = (found[-1][0], max(hi, found[-1][1]))
            else:
                found.append((lo, hi))
        return found

    # -- set-up, without steps -------------------------------------------------------------

    def create_partition_direct(
        self, *, vps: int = 1, pool: int = 0, frames: Iterable[PageRun] = ()
    ) -> HvPartition:
        """Set up an active partition with ``vps`` processors and ``pool`` free pool pages.

        What initialisation and the processors cost is deposited beyond that. ``frames``: host
        frames that are among the deposited pages; the others have no number, and WITHDRAW only
        counts them.
        """
        self.root.pool.add(self.costs.create_partition)
        self.root.pool.draw(self.costs.create_partition)
        partition = self.new_partition(parent=self.root.id)
        used = self.costs.initialize + vps * self.costs.create_vp
        named = 0
        for run in frames:
            partition.pool.add_frames(run.pfn, run.pfn + run.length)
            named += run.length
        partition.pool.add(max(0, used + pool - named))
        partition.pool.draw(used)
        partition.state = PartitionState.ACTIVE
        for index in range(vps):
            partition.new_vp(index)
        return partition
