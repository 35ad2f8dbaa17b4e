"""The driver's objects: partition, virtual processor and memory region (spec.md 4.1).

Slots carry the names of the C fields. A slot that only a later version or a patch has says so;
it is ``None`` until that version's factory (``new_region``, ``new_partition``) fills it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mshv_async.host import MmuIntervalNotifier
from mshv_async.sim import Mutex, RangeMap, Rcu, Refcount, Shared, SharedDict, WaitQueue, oops

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.host import Mm
    from mshv_async.hyperv import VirtualProcessor
    from mshv_async.sim import Completion, SpinLock


class Page(NamedTuple):
    """What an element of ``pages[]`` points to: a host frame.

    Which folio it is part of, and whether hugetlb owns that, is asked of the host when C asks.
    """

    pfn: int

    def advance(self, n: int) -> Page:
        """Return the page ``n`` elements further in the same run."""
        return Page(self.pfn + n)


LIST_POISON: Final = "LIST_POISON"
"""What ``hnode`` points to after the element was unlinked."""


class RegionList(Shared):
    """The partition's region list: a singly walked C list, newest region first.

    ``first`` and each region's ``hnode`` are the links. Insertion and removal are one step each;
    a walker that stands on a removed element finds the poisoned link, as in C.
    """

    __slots__ = ("first",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.first: MshvMemRegion | None = None

    def add_head(self, region: MshvMemRegion) -> None:
        """Link a region in front."""
        region.hnode = self.first
        self.first = region

    def delete(self, region: MshvMemRegion) -> None:
        """Unlink a region and poison its link."""
        if self.first is region:
            self.first = next_region(region)
        else:
            before = self.first
            while before is not None and before.hnode is not region:
                before = next_region(before)
            if before is None:
                oops("list corruption", region)
            before.hnode = next_region(region)
        region.hnode = LIST_POISON

    def regions(self) -> list[MshvMemRegion]:
        """Return the regions as they stand, in list order, without points."""
        found = []
        region = self.first
        while region is not None:
            found.append(region)
            region = next_region(region)
        return found


def next_region(region: MshvMemRegion) -> MshvMemRegion | None:
    """Follow the link to the next element; ``oops`` on the poison of a removed one."""
    link = region.hnode
    if link is LIST_POISON:
        oops("walk of the region list over a removed element", region)
    return link  # type: ignore[no-any-return]


class RegionNotifier(MmuIntervalNotifier):
    """The notifier embedded in a region; ``region`` is what C computes by ``container_of``."""

    __slots__ = ("region",)
    _const = (*MmuIntervalNotifier._const, "region")  # type: ignore[assignment]

    def __init__(self, name: str, region: MshvMemRegion) -> None:
        super().__init__(name)
        self.region = region


class MshvMemRegion(Shared):
    """A range of guest pages backed by the VMM's memory; allocated zeroed.

    ``start_gfn`` and ``nr_pages`` in pages, ``start_uaddr`` in bytes. ``pages`` is the C array of
    page pointers, as runs from offset in the region to :class:`Page`.
    """

    __slots__ = (
        "hnode",
        "hv_map_flags",
        "is_ram",
        "large_pages",
        "mni",
        "mreg_refcount",
        "mreg_released",
        "mreg_type",
        "mreg_windows",
        "mutex",
        "nr_pages",
        "pages",
        "partition",
        "range_pinned",
        "start_gfn",
        "start_uaddr",
    )
    _embedded = ("mni", "mutex", "pages", "mreg_refcount", "mreg_windows")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.hnode: Any = None
        self.partition: MshvPartition | None = None
        self.start_gfn = 0
        self.nr_pages = 0
        self.start_uaddr = 0
        self.hv_map_flags = 0
        self.large_pages = False
        self.range_pinned = False
        self.is_ram = False
        self.mni = RegionNotifier(f"{name}.mni", self)
        self.mutex = Mutex.zeroed(f"{name}.mutex", "region.mutex")
        self.pages: RangeMap[Page] = RangeMap(f"{name}.pages", linear=True)
        self.mreg_type: int | None = None  # v7
        self.mreg_refcount: Refcount | None = None  # v7, region-refcount
        self.mreg_released: Completion | None = None  # unmap-waits
        self.mreg_windows: SharedDict[int, RegionNotifier] | None = None  # range-retry


class MshvVp(Shared):
    """A virtual processor as the driver knows it; ``run`` state of the C nested struct inlined.

    ``vp_signaled_count`` counts kicks. ``vp_intercept_msg_page`` is the hypervisor's processor,
    whose ``intercept_message`` is the page shared with it.
    """

    __slots__ = (
        "intercept_suspend",
        "kicked_by_hv",
        "root_sched_blocked",
        "vp_index",
        "vp_intercept_msg_page",
        "vp_mutex",
        "vp_partition",
        "vp_signaled_count",
        "vp_suspend_queue",
    )
    _const = ("vp_index", "vp_partition", "vp_intercept_msg_page")
    _embedded = ("vp_mutex", "vp_suspend_queue")

    def __init__(
        self, name: str, partition: MshvPartition, index: int, page: VirtualProcessor
    ) -> None:
        super().__init__(name)
        self.vp_partition = partition
        self.vp_index = index
        self.vp_intercept_msg_page = page
        self.vp_mutex = Mutex(f"{name}.mutex", "vp_mutex")
        self.vp_suspend_queue = WaitQueue(f"{name}.suspend_queue")
        self.kicked_by_hv = False
        self.vp_signaled_count = 0
        self.root_sched_blocked = False
        self.intercept_suspend = False

    def kicked(self) -> bool:
        """Condition of a thread that waits for the hypervisor's kick."""
        return self.kicked_by_hv

    def drained(self) -> bool:
        """Condition of teardown: every signal that was sent has been counted."""
        return self.vp_signaled_count >= self.vp_intercept_msg_page.signal_count


class MshvPartition(Shared):
    """A guest partition: its processors by index and its region list.

    ``pt_mm``: the address space of the process that created it; only set-up uses it, since
    ioctls go by the current thread's. ``pt_ref_count``: one for its descriptor, one for each
    virtual processor. ``pt_install_fd``: puts a new processor's open file into the descriptor
    table of the current thread's process and returns the descriptor or -errno, without a point;
    whoever models processes sets it.
    """

    __slots__ = (
        "pt_id",
        "pt_initialized",
        "pt_install_fd",
        "pt_mem_regions",
        "pt_mem_regions_lock",
        "pt_mm",
        "pt_mutex",
        "pt_ref_count",
        "pt_region_pending",
        "pt_vp_array",
    )
    _const = ("pt_id", "pt_install_fd", "pt_mm")
    _embedded = ("pt_mem_regions", "pt_mutex", "pt_ref_count", "pt_vp_array", "pt_mem_regions_lock")
    _not_state = ("pt_install_fd",)

    def __init__(self, name: str, pt_id: int, mm: Mm) -> None:
        super().__init__(name)
        self.pt_id = pt_id
        self.pt_mm = mm
        self.pt_initialized = False
        self.pt_install_fd: Callable[[MshvVp], int] | None = None
        self.pt_ref_count = Refcount(f"{name}.ref_count")
        self.pt_mutex = Mutex(f"{name}.pt_mutex", "pt_mutex")
        self.pt_vp_array: SharedDict[int, MshvVp] = SharedDict(f"{name}.pt_vp_array")
        self.pt_mem_regions = RegionList(f"{name}.pt_mem_regions")
        self.pt_mem_regions_lock: SpinLock | None = None  # v7, region-refcount
        self.pt_region_pending: MshvMemRegion | None = None  # list-before-map


class MshvRoot(Shared):
    """The driver's module-wide state: partitions by id, read by the interrupt handler.

    ``regions_made``: how many regions began at each gfn so far, so that each has its own name.
    """

    __slots__ = ("pt_htable", "rcu", "regions_made")
    _const = ("pt_htable", "rcu", "regions_made")
    _embedded = ("pt_htable", "rcu", "regions_made")

    def __init__(self, name: str = "mshv_root") -> None:
        super().__init__(name)
        self.pt_htable: SharedDict[int, MshvPartition] = SharedDict(f"{name}.pt_htable")
        self.rcu = Rcu(f"{name}.rcu")
        self.regions_made: SharedDict[int, int] = SharedDict(f"{name}.regions_made", listed=False)
