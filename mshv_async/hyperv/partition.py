"""Partitions: their life, the calls that each state accepts, and what they own (spec.md 5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mshv_async.hyperv.codes import HvCall, PartitionState, SchedulerType
from mshv_async.hyperv.gpa_space import GpaSpace
from mshv_async.hyperv.pool import Pool
from mshv_async.hyperv.slat import NO_ACCESS_ENTRY, SlatEntry
from mshv_async.hyperv.vp import VirtualProcessor
from mshv_async.sim import RangeMap, Shared, SharedDict, probe

if TYPE_CHECKING:
    from mshv_async.hyperv.hypervisor import Hypervisor
    from mshv_async.sim import Grain

_ALWAYS: Final = frozenset({HvCall.WITHDRAW})

_ACCEPTED: Final = {
    PartitionState.UNINITIALIZED: _ALWAYS
    | {
        HvCall.DEPOSIT,
        HvCall.INITIALIZE,
        HvCall.DELETE,
        HvCall.GET_PARTITION_PROPERTY,
        HvCall.SET_PARTITION_PROPERTY,
    },
    PartitionState.ACTIVE: frozenset(HvCall) - {HvCall.DELETE, HvCall.INITIALIZE},
    PartitionState.FINALIZING: _ALWAYS | {HvCall.FINALIZE},
    PartitionState.FINALIZED: _ALWAYS | {HvCall.DELETE},
    PartitionState.DELETED: frozenset(),
}


def accepts(state: PartitionState, call: HvCall) -> bool:
    """Say whether a partition in this state takes the call (else INVALID_PARTITION_STATE)."""
    return call in _ACCEPTED[state]


class CallsInFlight(RangeMap[int]):
    """GFN to the number of rep calls under way over it."""

    __slots__ = ()
    _sync = True


class VpTable(SharedDict[int, VirtualProcessor]):
    """Index to virtual processor."""

    __slots__ = ()
    _sync = True


class HvPartition(Shared):
    """One partition as the hypervisor keeps it.

    ``slat``: gfn to :class:`SlatEntry`, absent where nothing is mapped. ``in_flight``: gfn to the
    number of rep calls under way over it, so that their elements are not grouped.
    """

    __slots__ = ("hv", "id", "in_flight", "parent", "pool", "slat", "space", "state", "vps")
    _const = ("hv", "id", "in_flight", "parent", "pool", "slat", "space", "vps")
    _embedded = ("in_flight", "pool", "space", "vps")
    _sync = True

    def __init__(
        self,
        id: int,
        parent: int,
        hv: Hypervisor,
    ) -> None:
        super().__init__(f"partition{id}")
        self.id = id
        self.parent = parent
        self.hv = hv
        self.state = PartitionState.UNINITIALIZED
        self.pool = Pool(f"{self.name}.pool", contiguous=hv.contiguous)
        root_pays = hv.tables == "root" and parent != 0
        self.space = GpaSpace(
            self.name,
            hv.root.pool if root_pays else self.pool,
            charged=hv.costs.tables,
            root_pays=root_pays,
            rules=hv.slat_rules,
        )
        self.slat = self.space.slat
        self.in_flight = CallsInFlight(f"{self.name}.in_flight")
        self.vps = VpTable(f"{self.name}.vps")

    @property
    def grain(self) -> Grain:
        """The GFNs that programs name, where elements of rep calls are not grouped."""
        return self.hv.grain

    def undeposited(self, lo: int, hi: int) -> int:
        """Return how many host pages from ``lo`` are in no partition's pool, up to ``hi``."""
        for partition in self.hv.partitions:
            for first, _, _ in partition.pool.frames.runs(lo, hi):
                hi = min(hi, first)
        return hi - lo

    def new_vp(self, index: int) -> VirtualProcessor:
        """Create a virtual processor; its pool pages are the caller's business."""
        vp = VirtualProcessor(self, index, root_scheduled=self.hv.scheduler is SchedulerType.ROOT)
        self.vps[index] = vp
        return vp

    # -- set-up, without steps -------------------------------------------------------------

    def map_direct(self, gfn: int, pages: int, entry: SlatEntry) -> None:
        """Set up ``pages`` entries from ``gfn`` as if mapped long ago, tables paid for."""
        self.space.map_direct(gfn, gfn + pages, entry)
        probe("slat.change", self, gfn, gfn + pages)

    def no_access_direct(self, gfn: int, pages: int, *, large: bool = False) -> None:
        """Set up inaccessible entries; a region of any size costs the same."""
        self.map_direct(gfn, pages, NO_ACCESS_ENTRY._replace(large=large))
