"""teardown-clean: what is taken down leaves nothing behind (spec.md 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.driver import MshvMemRegion, MshvPartition
from mshv_async.hyperv import PartitionState
from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import ALL_GFNS, Observed
from mshv_async.oracle.watching import watches
from mshv_async.sim import SharedDict, name_of
from mshv_async.sim.spans import span

if TYPE_CHECKING:
    from mshv_async.hyperv import HvPartition


class TeardownClean(Invariant):
    """Judged at each change of the table, whenever a region or the partition is freed, at the end.

    Guest pages outside live regions are never accessible, device memory included. When the
    partition's object goes, the hypervisor has no such partition any more, and its pool is empty.
    When all is over, each host page is free, mapped, in a pool or pinned; and if no descriptor of
    the partition and its processors is open any more, the partition is gone.
    """

    __slots__ = ("freed", "released")
    invariant = "teardown-clean"
    summary = "nothing accessible outside live regions; after destroy no pool page, no page lost"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        # By name: objects whose last descriptor was closed.
        self.released: SharedDict[str, Any] = SharedDict("oracle.released", listed=False)
        self.freed = False  # the partition's object is

    @watches("slat.change")
    def on_slat(self, partition: HvPartition, lo: int, hi: int) -> None:
        """Entries that become accessible must belong to somebody."""
        for a, b, entry in partition.slat.runs(lo, hi):
            if entry.rights and not self.world.owners(a):
                self._violated(f"gfns {span(a, b)} became accessible, but no region owns them")
                return

    @watches("object.free")
    def on_free(self, obj: Any) -> None:
        """Look at what a region or the partition leaves."""
        if isinstance(obj, MshvMemRegion):
            self._region_goes(obj)
        elif obj is self.world.partition:
            self.freed = True
            self._partition_goes(obj)

    @watches("file.release")
    def on_release(self, kind: str, obj: Any) -> None:
        """Note that the driver is told of the end of a file."""
        del kind
        self.released[name_of(obj)] = obj

    def _region_goes(self, region: MshvMemRegion) -> None:
        """See to it that nothing stays accessible but what others own."""
        lo, hi = region.start_gfn, region.start_gfn + region.nr_pages
        for a, b, entry in self.world.hv_partition.slat.runs(lo, hi):
            others = [r for r in self.world.owners(a) if r is not region]
            if entry.rights and not others:
                self._violated(
                    f"gfns {span(a, b)} stay accessible after {name_of(region)} is destroyed",
                    f"they lead to {entry.kind} pages from {entry.pfn:#x} on",
                )
                return

    def _partition_goes(self, partition: MshvPartition) -> None:
        """See to it that the hypervisor keeps nothing of it."""
        theirs = self.world.hv_partition
        for a, b, entry in theirs.slat.runs(0, ALL_GFNS):
            if entry.rights:
                self._violated(f"gfns {span(a, b)} stay accessible after {name_of(partition)}")
                return
        if theirs.pool.deposited:
            self._violated(
                f"{name_of(partition)} is freed with {theirs.pool.deposited} pages in its pool",
                "the host never gets them back",
            )
        elif theirs.state is not PartitionState.DELETED:
            self._violated(
                f"{name_of(partition)} is freed, and the hypervisor still has it",
                f"it is {theirs.state.name.lower()}",
            )
        elif self.world.alive:
            self._violated(
                f"{name_of(partition)} is freed, and {name_of(self.world.alive[0])} lives on",
                "nobody will unmap it",
            )

    @watches("world.end")
    def on_end(self) -> None:
        """Look for host pages that are allocated and nobody's.

        What is left of a folio that was partly unmapped belongs to the folio.
        """
        host = self.world.host
        self._partition_stays()
        self._dead_mappings()
        for lo, hi, frame in host.frames.runs(1, host.device_pfn):
            if not frame.refs or frame.maps or frame.pins:
                continue
            for a, b in self._not_in_pools(lo, hi):
                if a < host.pages or host.folio(a).hugetlb:
                    self._lost(
                        "lost pages",
                        f"pages {span(a, b)} are allocated, but not mapped anywhere",
                        "they are in no pool and not pinned: nobody can free them any more",
                    )
                    return

    def _partition_stays(self) -> None:
        """See to it that a partition is destroyed when nobody can reach it any more."""
        partition = self.world.partition
        users = (partition, *self.world.vps)
        if not self.freed and all(self.released.get(name_of(o)) is o for o in users):
            self._lost(
                "partition",
                f"{name_of(partition)} lives on, though its last descriptor was closed",
                "nobody can reach it any more: its memory and the hypervisor's are lost",
            )

    def _dead_mappings(self) -> None:
        """See to it that nobody mapped pages into an address space after its exit had swept it."""
        mm = self.world.mm
        if mm.users.count:
            return
        for lo, hi, pte in mm.ptes.runs(0, ALL_GFNS):
            if pte.owns_frame and not mm.vmas.runs(lo, hi):
                self._lost(
                    "mapped after exit",
                    f"{hi - lo} pages from {pte.pfn:#x} on stay mapped in {name_of(mm)}",
                    "its process is gone: exit had swept the address space before they came",
                )
                return

    def _not_in_pools(self, lo: int, hi: int) -> list[tuple[int, int]]:
        left = [(lo, hi)]
        for partition in self.world.hv_partition.hv.partitions:
            pool = partition.pool.frames
            left = [(x, y) for a, b in left for x, y, pooled in pool.pieces(a, b) if not pooled]
        return left

    def _lost(self, about: str, *story: str) -> None:
        self.world.violated(self.name, story, functions=("at the end",), about=about)

    def _violated(self, *story: str) -> None:
        self.world.violated(self.name, story)
