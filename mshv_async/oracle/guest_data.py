"""guest-data: a guest read returns the last coherent write (spec.md 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import Observed, is_movable, vpn_of
from mshv_async.oracle.watching import watches
from mshv_async.sim import RangeMap, Tag

if TYPE_CHECKING:
    from mshv_async.driver import MshvMemRegion
    from mshv_async.host import Mm
    from mshv_async.hyperv import SlatEntry

_WRITE = 1


class GuestData(Invariant):
    """Keeps what each page of the VMM should hold, and compares what the guest reads with it.

    A page holds the tag of its last writer, 0 after its content was discarded. What MADV_FREE
    gave up is discarded by reclaim, but not once somebody wrote to the page again. A guest write
    counts if it went to the page that the VMM's entry names. Pages of pinned regions are their
    own truth and are not compared.
    """

    __slots__ = ("content", "given_up", "reads_checked")
    invariant = "guest-data"
    _not_state = ("reads_checked",)
    summary = "a guest read returns the value last written through any coherent path"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.content: RangeMap[Tag | int] = RangeMap("oracle.content")  # by vpn; absent: 0
        # By vpn: freed lazily, and not written since.
        self.given_up: RangeMap[bool] = RangeMap("oracle.given_up")
        self.reads_checked = 0

    @watches("page.store")
    def on_store(self, mm: Mm, vpn: int, tag: Tag) -> None:
        """Take the VMM's write for the truth."""
        if mm is self.world.mm:
            self._written(vpn, tag)

    def _written(self, vpn: int, tag: Tag | int) -> None:
        if self.content.get(vpn) != tag:
            self.content.set(vpn, vpn + 1, tag)
        self._keep(vpn, vpn + 1)

    def _keep(self, lo: int, hi: int) -> None:
        if self.given_up.worth_asking and self.given_up.runs(lo, hi):
            self.given_up.clear(lo, hi)

    @watches("pte.discard")
    def on_discard(self, mm: Mm, lo: int, hi: int) -> None:
        """Forget contents that the host dropped."""
        if mm is self.world.mm:
            self._forget(lo, hi)
            self._keep(lo, hi)

    def _forget(self, lo: int, hi: int) -> None:
        if self.content.runs(lo, hi):
            self.content.clear(lo, hi)

    @watches("pte.lazyfree")
    def on_lazyfree(self, mm: Mm, lo: int, hi: int) -> None:
        """MADV_FREE: the host may drop the contents as long as nobody writes."""
        if mm is self.world.mm:
            for a, b, _ in self.content.runs(lo, hi):
                self.given_up.set(a, b, True)

    @watches("pte.drop")
    def on_drop(self, mm: Mm, lo: int, hi: int) -> None:
        """Reclaim dropped contents without writing them to swap."""
        if mm is self.world.mm:
            for a, b, _ in self.given_up.runs(lo, hi):
                self.content.clear(a, b)
                self.given_up.clear(a, b)

    @watches("guest.access")
    def on_access(
        self, guest: Any, access: int, gfn: int, entry: SlatEntry, tag: Tag | int
    ) -> None:
        """Take the guest's write for the truth, and compare its read with it."""
        if entry.kind != "ram" or guest.vp.partition is not self.world.hv_partition:
            return
        region = self._region(gfn)
        if region is None:
            return
        vpn = vpn_of(region, gfn)
        if access == _WRITE:
            pte = self.world.mm.ptes.get(vpn)
            if pte is not None and pte.present and pte.pfn == entry.pfn:
                self._written(vpn, tag)
            return
        self.reads_checked += 1
        expected = self.content.get(vpn) or 0
        if tag != expected:
            self.world.violated(
                self.name,
                (
                    f"{guest.name} reads {tag!s} from gfn {gfn:#x} (pfn {entry.pfn:#x})",
                    f"the last coherent write left {expected!s} there",
                ),
                functions=("guest.read",),
                objects=(f"gfn {gfn:#x}",),
            )

    def _region(self, gfn: int) -> MshvMemRegion | None:
        for region in self.world.owners(gfn):
            if is_movable(region):
                return region
        return None
