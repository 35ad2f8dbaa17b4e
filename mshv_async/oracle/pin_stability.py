"""pin-stability: a pinned page stays where it is until it is unpinned, once (spec.md 1.2, 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.driver import MshvMemRegion
from mshv_async.host import PteState
from mshv_async.oracle.invariant import LateInvariant
from mshv_async.oracle.observed import ALL_PFNS, Observed, is_mmio, is_movable
from mshv_async.oracle.watching import watches
from mshv_async.sim import RangeMap, SharedDict, name_of
from mshv_async.sim.spans import span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mshv_async.host import HostMemory, Mm, Pte
    from mshv_async.hyperv import HvPartition
    from mshv_async.sim import Thread

Shown = tuple["Mm", int, int, int]
"""Address space, first and end vpn, and the first pfn that its entries showed."""


class PinStability(LateInvariant):
    """Counts pins by frame, and remembers which entry of which mm showed a frame when it was pinned.

    Until the last unpin the frame is not freed, and the entry that shows it may lose it to munmap
    or MADV_DONTNEED, but not to swap, migration or another frame. A pinned region gives access to
    pinned frames only. When no pinned region lives and no ioctl is under way, no pin is left.
    """  # noqa: E501

    __slots__ = ("busy", "changed", "discarded", "pins", "shown")
    _not_state = (*LateInvariant._not_state, "changed", "discarded")  # empty between two steps
    invariant = "pin-stability"
    summary = "a pinned page keeps its frame, is not freed, and is unpinned exactly once"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.pins: RangeMap[int] = RangeMap("oracle.pins")  # pfn to number of pins
        self.shown: tuple[Shown, ...] = ()
        self.discarded: list[tuple[Mm, int, int]] = []  # in this step
        self.changed: list[tuple[Mm, int, int]] = []  # in this step
        self.busy: SharedDict[str, bool] = SharedDict("oracle.busy", listed=False)
        for lo, hi, frame in world.host.frames.runs(0, ALL_PFNS):
            if frame.pins:
                self.pins.set(lo, hi, frame.pins)
                self._show(world.host, lo, hi)
                self.begin_watching()

    # -- pins ------------------------------------------------------------------------------

    @watches("frame.pin")
    def on_pin(self, host: HostMemory, pfn: int, n: int) -> None:
        """Count pins, and note where the frames are mapped."""
        self.begin_watching()
        for lo, hi, pins in self.pins.pieces(pfn, pfn + n):
            self.pins.set(lo, hi, (pins or 0) + 1)
        self._show(host, pfn, pfn + n)

    def _show(self, host: HostMemory, lo: int, hi: int) -> None:
        for a, b, mapping in host.rmap.runs(lo, hi):
            known = (mapping.mm, mapping.vpn, mapping.vpn + b - a, a)
            if known not in self.shown:
                self.shown = (*self.shown, known)

    @watches("frame.unpin", late=True)
    def on_unpin(self, host: HostMemory, pfn: int, n: int) -> None:
        """Uncount them; a frame without a pin cannot be unpinned."""
        del host
        for lo, hi, pins in self.pins.pieces(pfn, pfn + n):
            if pins is None:
                self._violated(
                    f"pages {span(lo, hi)} are unpinned once more than they were pinned",
                    "somebody else's pin or reference was given away",
                )
            elif pins > 1:
                self.pins.set(lo, hi, pins - 1)
            else:
                self.pins.clear(lo, hi)
                self._forget(lo, hi)
                self._still_used(lo, hi)

    def _still_used(self, lo: int, hi: int) -> None:
        """See whether a pinned region still gives access to frames that lost their last pin."""
        for region in self._pinned_regions():
            first, end = region.start_gfn, region.start_gfn + region.nr_pages
            for a, b, entry in self.world.hv_partition.slat.runs(first, end):
                used = entry.rights and entry.kind == "ram"
                if used and entry.pfn < hi and lo < entry.pfn + b - a:
                    self._violated(
                        f"pages {span(lo, hi)} are unpinned",
                        f"gfns {span(a, b)} of {name_of(region)} still map them",
                    )
                    return

    def _pinned_regions(self) -> list[MshvMemRegion]:
        """Return the regions that were made to be pinned; one that is being made is nothing yet."""
        made = [region for region in self.world.alive if region.partition is not None]
        return [region for region in made if not is_movable(region) and not is_mmio(region)]

    def _forget(self, lo: int, hi: int) -> None:
        self._show_only(
            part
            for mm, a, b, pfn in self.shown
            for part in _without(mm, a, b, pfn, lo - pfn + a, hi - pfn + a)
        )

    def _show_only(self, parts: Iterable[Shown]) -> None:
        shown = tuple(parts)
        if shown != self.shown:
            self.shown = shown

    @watches("frame.free")
    def on_free(self, host: HostMemory, pfn_lo: int, pfn_hi: int) -> None:
        """See to it that no frame is freed while it is pinned."""
        del host
        for lo, hi, pins in self.pins.runs(pfn_lo, pfn_hi):
            self._violated(
                f"pages {span(lo, hi)} are freed with {pins} pins on each",
                "the guest or a device still uses them",
            )

    # -- the entries that show them --------------------------------------------------------

    @watches("pte.discard", late=True)
    def on_discard(self, mm: Mm, lo: int, hi: int) -> None:
        """Note that contents were given up on purpose, which a pin does not forbid."""
        if self.shown:
            self.discarded = [*self.discarded, (mm, lo, hi)]
            self.world.rt.judge_later(self.judge)

    @watches("pte.change", late=True)
    def on_pte(self, mm: Mm, lo: int, hi: int) -> None:
        """Have a change of entries judged when the step ends: a discard is told after it."""
        if self.shown:
            self.changed = [*self.changed, (mm, lo, hi)]
            self.world.rt.judge_later(self.judge)

    def judge(self) -> None:
        """See whether an entry lost its pinned frame to anything but a discard."""
        changed, discarded = self.changed, self.discarded
        self.changed, self.discarded = [], []
        for mm, lo, hi in discarded:
            self._show_only(
                part
                for known, a, b, pfn in self.shown
                for part in (
                    _without(known, a, b, pfn, lo, hi) if known is mm else [(known, a, b, pfn)]
                )
            )
        for mm, lo, hi in changed:
            for known, a, b, pfn in self.shown:
                if known is mm and lo < b and a < hi:
                    self._compare(mm, max(a, lo), min(b, hi), pfn + max(a, lo) - a)

    def _compare(self, mm: Mm, lo: int, hi: int, pfn: int) -> None:
        """Look at entries that are there; an empty one may be filled again with the same frame."""
        for a, b, pte in mm.ptes.runs(lo, hi):
            want = pfn + a - lo
            if pte.pfn != want or not _keeps_frame(pte):
                self._violated(
                    f"page {want:#x} is pinned, and pages {span(a, b)} of {name_of(mm)} showed it",
                    f"the host put {pte.state.name.lower()} {pte.pfn:#x} there, though nobody "
                    "discarded the content",
                )
                self._forget(want, want + b - a)
                return

    # -- regions ---------------------------------------------------------------------------

    @watches("slat.change", late=True)
    def on_slat(self, partition: HvPartition, lo: int, hi: int) -> None:
        """See to it that a pinned region is given access to pinned frames only."""
        if partition is not self.world.hv_partition:
            return
        for region in self._pinned_regions():
            a = max(lo, region.start_gfn)
            b = min(hi, region.start_gfn + region.nr_pages)
            for x, y, entry in partition.slat.runs(a, b) if a < b else ():
                if entry.rights and entry.kind == "ram" and self._unpinned(entry.pfn, y - x):
                    self._violated(
                        f"gfns {span(x, y)} of {name_of(region)} map pages from {entry.pfn:#x} on",
                        "the region is not movable, and these pages are not pinned",
                    )
                    return

    def _unpinned(self, pfn: int, n: int) -> bool:
        return self.pins.total(max(pfn, 1), pfn + n) < pfn + n - max(pfn, 1)

    @watches("ioctl.begin")
    def on_begin(self, thread: Thread, name: str, *args: Any) -> None:
        """Let an ioctl hold pins of its own while it is under way."""
        del name, args
        self.begin_watching()
        self.busy[thread.name] = True

    @watches("ioctl.return", late=True)
    def on_return(self, thread: Thread, name: str, *args: Any) -> None:
        """Look for pins that an ioctl left behind."""
        del name, args
        self.busy.pop(thread.name)
        self._leftovers()

    @watches("object.free", late=True)
    def on_object(self, obj: Any) -> None:
        """Look for pins that a region left behind."""
        if self.pins and isinstance(obj, MshvMemRegion):
            self._leftovers()

    def _leftovers(self) -> None:
        if not self.pins or self._is_busy() or self._pinned_regions():
            return
        lo, hi, pins = self.pins.runs(0, ALL_PFNS)[0]
        self._violated(
            f"pages {span(lo, hi)} stay pinned ({pins} each)",
            "no region that could unpin them is left",
        )

    def _is_busy(self) -> bool:
        """Say whether some thread is in an ioctl."""
        return any(self.busy.get(thread.name) for thread in self.world.rt.all_threads)

    def _violated(self, *story: str) -> None:
        self.world.violated(self.name, story)


def _keeps_frame(pte: Pte) -> bool:
    """Say whether an entry leads to its frame; one under migration may still come back to it."""
    return pte.owns_frame or pte.state is PteState.MIGRATION


def _without(mm: Mm, lo: int, hi: int, pfn: int, cut_lo: int, cut_hi: int) -> list[Shown]:
    """Return what is left of entries ``[lo, hi)``, which show frames from ``pfn`` on."""
    if cut_hi <= lo or hi <= cut_lo:
        return [(mm, lo, hi, pfn)]
    left = []
    if lo < cut_lo:
        left.append((mm, lo, cut_lo, pfn))
    if cut_hi < hi:
        left.append((mm, cut_hi, hi, pfn + cut_hi - lo))
    return left
