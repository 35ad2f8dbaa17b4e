"""guest-killed: a legal guest access to RAM left the kernel unhandled (design.md 7)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from mshv_async.oracle.atomic_failure import gfns_of
from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import ALL_GFNS, Observed, covers, vpn_of
from mshv_async.oracle.watching import watches
from mshv_async.sim import RangeMap, SharedDict, current
from mshv_async.sim.accesses import READ

if TYPE_CHECKING:
    from mshv_async.driver import MshvMemRegion
    from mshv_async.host import Mm
    from mshv_async.hyperv import HvPartition, InterceptMessage, VirtualProcessor
    from mshv_async.sim import Thread

_WRITE = 1
_RIGHT = (0x1, 0x2, 0xC)  # read, write, execute as map flags


class _Access(NamedTuple):
    """An access under way. About the present handling: ``fired``, injected failures that had hit
    its thread before, and ``short``, whether an allocation failed.
    """  # noqa: D205

    kind: int
    gfn: int
    legal: bool
    fired: int
    short: bool = False


class GuestKilled(Invariant):
    """Follows each access from its issue, and each handling from its intercept.

    Legal: the region's rights allow it; its own gfn has had an entry; the VMA of its own page
    exists and permits it; no unmap or close of the region has begun, no fatal signal to the VMM
    or to the thread, and the VMM's memory is not being dismantled; no injected or allocation
    failure hit this handling. A region whose map ioctl is under way is the guest's only if that
    ioctl succeeds, so a finding on it waits for its end.
    """

    __slots__ = ("accesses", "exiting", "had", "waiting")
    invariant = "guest-killed"
    summary = "a legal guest access is retired or retried, never left to the VMM"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.accesses: SharedDict[int, _Access] = SharedDict("oracle.accesses", listed=False)
        self.had: RangeMap[bool] = RangeMap("oracle.had")
        self.exiting = False  # the VMM exits by itself, without a signal to the one who does
        self.waiting: tuple[tuple[int, int, str], ...] = ()  # vp, gfn, what: the map is under way
        for lo, hi, _ in world.hv_partition.slat.runs(0, ALL_GFNS):
            self.had.set(lo, hi, True)

    @watches("slat.change")
    def on_slat(self, partition: HvPartition, lo: int, hi: int) -> None:
        """Remember which guest pages have had an entry."""
        for a, b, _ in partition.slat.runs(lo, hi):
            if self.had.total(a, b) < b - a:
                self.had.set(a, b, True)

    @watches("guest.issue")
    def on_issue(self, vp: VirtualProcessor, kind: int, gfn: int) -> None:
        """Judge an access that is tried for the first time."""
        legal = bool(self.had.get(gfn)) and self._permitted(kind, gfn)
        self.accesses[vp.index] = _Access(kind, gfn, legal, self._fired(vp.index))

    @watches("guest.refused")
    def on_refused(self, vp: VirtualProcessor, kind: int, gfn: int, message: Any) -> None:
        """Begin a handling: what failed in an earlier one of the same access excuses nothing."""
        del kind, gfn, message
        access = self.accesses.get(vp.index)
        if access is not None:
            self.accesses[vp.index] = access._replace(fired=self._fired(vp.index), short=False)

    @watches("guest.access")
    def on_access(self, guest: Any, kind: int, gfn: int, entry: Any, tag: Any) -> None:
        """Forget an access that retired."""
        del kind, gfn, entry, tag
        self.accesses.pop(guest.vp.index)

    @watches("vma.change")
    def on_vma(self, mm: Any) -> None:
        """Judge accesses under way again: a mapping went or lost rights."""
        del mm
        for index, access in self._legal():
            if not self._permitted(access.kind, access.gfn):
                self.accesses[index] = access._replace(legal=False)

    def _legal(self) -> list[tuple[int, _Access]]:
        """Return the legal accesses under way, by processor."""
        known = ((index, self.accesses.get(index)) for index in self.world.hv_partition.vps)
        return [(index, access) for index, access in known if access is not None and access.legal]

    @watches("ioctl.begin")
    def on_ioctl(self, thread: Thread, name: str, *args: Any) -> None:
        """Follow what the VMM takes away from the guest, and what it gives.

        What an earlier region left in the table does not yet let the guest use a new one.
        """
        del thread
        if name == "map_user_memory":
            for gfn, end in self._unowned(*gfns_of(args[0])):
                self.had.clear(gfn, end)
        if name != "unmap_user_memory":
            return
        going = self.world.owners(args[0].guest_pfn)
        for index, access in self._legal():
            if any(covers(region, access.gfn) for region in going):
                self.accesses[index] = access._replace(legal=False)

    @watches("guest.unhandled")
    def on_unhandled(self, vp: VirtualProcessor, message: InterceptMessage) -> None:
        """Report that the kernel gave up on an access, if that was a legal one."""
        access = self.accesses.pop(vp.index)
        thread = self.world.vp_threads.get(vp.index)
        if access is None or not access.legal or not self._permitted(access.kind, access.gfn):
            return
        if access.short or self._fired(vp.index) != access.fired:
            return
        if self._dying() or (thread is not None and self.world.is_killed(thread)):
            return
        kind = ("read", "write", "execute")[access.kind]
        what = f"vp{vp.index}: a legal {kind} of gfn {access.gfn:#x} left the kernel unhandled"
        told = f"the VMM gets {message.type.name} and takes it for a device access"
        if any(self._allows(r, access.kind, access.gfn) for r in self.world.created):
            self._report(vp.index, access.gfn, what, told)
        else:
            self.waiting = (*self.waiting, (vp.index, access.gfn, f"{what}\n{told}"))

    @watches("process.exit")
    def on_exit(self, mm: Mm) -> None:
        """Note that a process begins to exit."""
        if mm is self.world.mm and not self.exiting:
            self.exiting = True

    @watches("ioctl.return")
    def on_return(self, thread: Thread, name: str, ret: int, *args: Any) -> None:
        """Decide about accesses to a region that was being mapped."""
        del thread
        if name != "map_user_memory" or not self.waiting:
            return
        lo, end = gfns_of(args[0])
        due = [access for access in self.waiting if lo <= access[1] < end]
        if due:
            self.waiting = tuple(access for access in self.waiting if access not in due)
        for vp, gfn, story in due if ret == 0 else ():
            late = f"the map ioctl that had given it its entry has succeeded since ({name})"
            self._report(vp, gfn, *story.split("\n"), late)

    def _report(self, vp: int, gfn: int, *story: str) -> None:
        thread = self.world.vp_threads.get(vp)
        self.world.report(
            self.name,
            story,
            functions=("vp_ioctl_run_vp",),
            objects=(f"gfn {gfn:#x}",),
            threads=(thread.name,) if thread is not None else (),
        )

    def _dying(self) -> bool:
        """Say whether the VMM was killed, or its memory is being taken away for good."""
        mm = self.world.mm
        if self.exiting or mm.users.count == 0 or mm.flags.unstable:
            return True
        return any(self.world.is_killed(thread) for thread in mm.threads)

    @watches("page.alloc_failed")
    def on_alloc_failed(self, host: Any, site: str) -> None:
        """Remember whose handling the host had no page for."""
        del host, site
        name = current().name
        for index, thread in self.world.vp_threads.items():
            access = self.accesses.get(index) if thread.name == name else None
            if access is not None:
                self.accesses[index] = access._replace(short=True)

    def _unowned(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """Return the parts of a range that no region holds that stays."""
        edges = {lo, hi}
        staying = [r for r in self.world.alive if not self.world.is_leaving(r)]
        for region in staying:
            ends = (region.start_gfn, region.start_gfn + region.nr_pages)
            edges |= {e for e in ends if lo < e < hi}
        cuts = sorted(edges)
        return [(a, b) for a, b in pairwise(cuts) if not any(covers(r, a) for r in staying)]

    def _fired(self, index: int) -> int:
        thread = self.world.vp_threads.get(index)
        if thread is None:
            return 0
        self.world.rt.told(("injected", thread.name), READ)
        return self.world.rt.injector.fired.get(thread.name, 0)

    def _permitted(self, kind: int, gfn: int) -> bool:
        return any(self._allows(region, kind, gfn) for region in self.world.owners(gfn))

    def _allows(self, region: MshvMemRegion, kind: int, gfn: int) -> bool:
        if self.world.is_leaving(region) or not region.hv_map_flags & _RIGHT[kind]:
            return False
        vma = self.world.mm.vmas.get(vpn_of(region, gfn))
        if vma is None or vma.raw:
            return False
        return "w" in vma.prot if kind == _WRITE else "r" in vma.prot
