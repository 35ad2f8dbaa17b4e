"""What the oracle looks at, and which regions there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.driver import MshvMemRegion, MshvVp, RegionType
from mshv_async.hyperv import PartitionState
from mshv_async.oracle.watching import subscriptions, watches
from mshv_async.sim import Shared, current_or_none
from mshv_async.sim.accesses import READ
from mshv_async.sim.faults import Finding
from mshv_async.sim.verdicts import innermost, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mshv_async.driver import MshvPartition
    from mshv_async.host import HostMemory, Mm
    from mshv_async.hyperv import HvPartition
    from mshv_async.sim import Runtime, Thread
    from mshv_async.sim.faults import Place

PAGE_SHIFT = 12
ALL_GFNS = 1 << 52
ALL_PFNS = 1 << 52


class Observed(Shared):
    """A world as the oracle sees it.

    ``alive``: region objects from their allocation until they are freed, so none of these lists
    holds a freed one. ``created``: those of them whose map ioctl has returned and that no unmap
    ioctl has taken away, ``gone``: that one has. ``unmapping``: unmap ioctls under way, by
    thread, with the gfn that each names. ``vps``: processors' objects until they are freed, also
    those that nobody can find yet.
    """

    __slots__ = (
        "alive",
        "created",
        "gone",
        "host",
        "hv_partition",
        "mm",
        "partition",
        "rt",
        "unmapping",
        "vp_threads",
        "vps",
    )
    _const = ("host", "hv_partition", "mm", "partition", "rt", "vp_threads")

    def __init__(
        self,
        rt: Runtime,
        host: HostMemory,
        mm: Mm,
        hv_partition: HvPartition,
        partition: MshvPartition,
        vp_threads: dict[int, Thread] | None = None,
    ) -> None:
        super().__init__("observed")
        self.rt = rt
        self.host = host
        self.mm = mm
        self.hv_partition = hv_partition
        self.partition = partition
        self.vp_threads = {} if vp_threads is None else vp_threads
        self.alive: tuple[MshvMemRegion, ...] = ()
        self.created: tuple[MshvMemRegion, ...] = ()
        self.gone: tuple[MshvMemRegion, ...] = ()
        self.unmapping: tuple[tuple[str, int], ...] = ()
        self.vps: tuple[MshvVp, ...] = ()

    def begin(self) -> None:
        """Take stock after set-up, and follow the regions from then on; nobody judges."""
        self.take_stock()
        self.rt.listen(subscriptions((Observed,), (False,)), (self,))

    def take_stock(self) -> None:
        """Look which regions and processors there are after set-up."""
        self.alive = self.created = tuple(self.partition.pt_mem_regions.regions())
        self.vps = tuple(self.partition.pt_vp_array.values())

    @watches("object.alloc")
    def _allocated(self, obj: Any) -> None:
        if isinstance(obj, MshvMemRegion):
            self.alive = (*self.alive, obj)
        elif isinstance(obj, MshvVp) and obj.vp_partition is self.partition:
            self.vps = (*self.vps, obj)

    @watches("object.free")
    def _freed(self, obj: Any) -> None:
        if isinstance(obj, MshvVp):
            if obj in self.vps:
                self.vps = tuple(vp for vp in self.vps if vp is not obj)
        elif isinstance(obj, MshvMemRegion):
            self.alive = tuple(r for r in self.alive if r is not obj)
            if obj in self.created:
                self.created = tuple(r for r in self.created if r is not obj)
            if obj in self.gone:
                self.gone = tuple(r for r in self.gone if r is not obj)

    @watches("ioctl.begin")
    def _ioctl_begins(self, thread: Thread, name: str, *args: Any) -> None:
        if name == "unmap_user_memory":
            self.unmapping = (*self.unmapping, (thread.name, args[0].guest_pfn))

    @watches("ioctl.return")
    def _ioctl_returns(self, thread: Thread, name: str, ret: int, *args: Any) -> None:
        # Returns come in the order of the partition mutex: it is released in the same step.
        if name == "map_user_memory" and ret == 0:
            gfn, pages = args[0].guest_pfn, args[0].size >> PAGE_SHIFT
            self.created = (
                *self.created,
                *(
                    r
                    for r in self.alive
                    if r.start_gfn == gfn
                    and r.nr_pages == pages
                    and r not in self.created
                    and r not in self.gone
                ),
            )
        elif name == "unmap_user_memory":
            (gfn,) = (named for name, named in self.unmapping if name == thread.name)
            self.unmapping = tuple(u for u in self.unmapping if u[0] != thread.name)
            if ret == 0:
                self.gone = (*self.gone, *(r for r in self.created if covers(r, gfn)))
                self.created = tuple(r for r in self.created if not covers(r, gfn))

    @property
    def mapped(self) -> Sequence[MshvMemRegion]:
        """The regions whose map ioctl has returned and whose unmap ioctl has not begun.

        FINALIZE drops the whole table: from then on there are none.
        """
        if self.hv_partition.state is not PartitionState.ACTIVE:
            return ()
        if not self.gone and not self.unmapping:
            return self.created
        return [r for r in self.created if not self.is_leaving(r)]

    def is_leaving(self, region: MshvMemRegion) -> bool:
        """Say whether an unmap ioctl of a live region has begun, and has not failed."""
        return region in self.gone or any(covers(region, gfn) for _, gfn in self.unmapping)

    def owners(self, gfn: int) -> list[MshvMemRegion]:
        """Return the live regions that hold a gfn."""
        return [r for r in self.alive if r.start_gfn <= gfn < r.start_gfn + r.nr_pages]

    def movable(self) -> Iterable[MshvMemRegion]:
        """Return the live regions whose notifier is in the tree."""
        return (region for region in self.alive if in_tree(region))

    def is_killed(self, thread: Thread) -> bool:
        """Say whether a thread has got a fatal signal."""
        self.rt.told(("thread", thread.name), READ)
        return thread.fatal_pending

    # -- findings --------------------------------------------------------------------------

    def caller(self) -> str:
        """Return the driver's function that the current thread's hypercall is made for.

        The helpers that issue hypercalls are the same for all of them, so they say nothing.
        """
        here = self.rt.place()
        for function in here.functions:
            if not function.startswith(("hv_", "_")):
                return function
        return innermost(here)

    def violated(
        self,
        invariant: str,
        story: Sequence[str],
        *,
        functions: Sequence[str] = (),
        objects: Sequence[str] = (),
        other: Place | None = None,
        about: str = "",
    ) -> None:
        """Report that an invariant does not hold, as seen in the current step."""
        self.report(f"invariant:{invariant}", story, functions, objects, other, about)

    def report(
        self,
        verdict: str,
        story: Sequence[str],
        functions: Sequence[str] = (),
        objects: Sequence[str] = (),
        other: Place | None = None,
        about: str = "",
        threads: Sequence[str] = (),
    ) -> None:
        """Report a finding with the functions that met: where this is, and ``other``.

        ``about`` tells two findings in the same functions apart. ``threads``: who else had a part.
        """
        rt = self.rt
        thread = current_or_none() or rt.running
        here = rt.place(thread)
        met = [*(functions or [innermost(here)]), *([innermost(other)] if other else [])]
        names = (*threads, other.thread) if other else tuple(threads)
        involved = [t for t in rt.live if t is thread or t.name in names]
        rt.report(
            Finding(
                verdict,
                title(verdict, met, about),
                tuple(story),
                stacks={t.name: rt.stack_of(t) for t in involved},
                step=rt.steps,
                threads=tuple(t.name for t in involved),
                objects=tuple(objects),
            )
        )


def covers(region: MshvMemRegion, gfn: int) -> bool:
    """Say whether a gfn lies in a region."""
    return bool(region.start_gfn <= gfn < region.start_gfn + region.nr_pages)


def is_movable(region: MshvMemRegion) -> bool:
    """Say whether a region was ever registered with the notifier; pinned ones are not."""
    return region.mni.mm is not None


def is_mmio(region: MshvMemRegion) -> bool:
    """Say whether a region is device memory: neither movable nor pinned."""
    if region.mreg_type is None:  # before v7
        return not region.is_ram
    return bool(region.mreg_type == RegionType.MMIO)


def in_tree(region: MshvMemRegion) -> bool:
    """Say whether a region's notifier gets callbacks now."""
    mni = region.mni
    subscriptions = mni.mm.subscriptions if mni.mm is not None else None
    return subscriptions is not None and mni in subscriptions.itree


def vpn_of(region: MshvMemRegion, gfn: int) -> int:
    """Return the VMM's page number that backs a gfn of a region."""
    return int((region.start_uaddr >> PAGE_SHIFT) + gfn - region.start_gfn)


def gfn_of(region: MshvMemRegion, vpn: int) -> int:
    """Return the gfn that a page number of the VMM backs, as if the region reached that far."""
    return int(region.start_gfn + vpn - (region.start_uaddr >> PAGE_SHIFT))


def gfns_behind(region: MshvMemRegion, vpn_lo: int, vpn_hi: int) -> tuple[int, int]:
    """Return the gfns of a region that pages ``[vpn_lo, vpn_hi)`` back; empty: lo >= hi."""
    lo = max(gfn_of(region, vpn_lo), region.start_gfn)
    hi = min(gfn_of(region, vpn_hi), region.start_gfn + region.nr_pages)
    return lo, hi
