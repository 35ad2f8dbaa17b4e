"""page-array: what the driver recorded is what the SLAT has (spec.md 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.watching import watches
from mshv_async.sim import name_of

if TYPE_CHECKING:
    from mshv_async.driver import MshvMemRegion


class PageArray(Invariant):
    """Judged whenever a region's mutex is released, between map's return and unmap's start."""

    __slots__ = ()
    invariant = "page-array"
    summary = "each page that the driver recorded is the accessible one in the SLAT"

    @watches("lock.release")
    def on_release(self, lock: Any) -> None:
        """Compare the region whose mutex this is."""
        for region in self.world.mapped:
            if region.mutex is lock and region.mutex.owner is None:
                self._compare(region)

    def _compare(self, region: MshvMemRegion) -> None:
        slat = self.world.hv_partition.slat
        for lo, hi, page in region.pages.runs(0, region.nr_pages):
            start = region.start_gfn + lo
            for a, b, entry in slat.pieces(start, start + hi - lo):
                want = page.pfn + a - start
                if entry is None or not entry.rights or entry.pfn != want:
                    has = "no accessible entry" if entry is None or not entry.rights else (
                        f"page {entry.pfn:#x}"
                    )  # fmt: skip
                    self.world.violated(
                        self.name,
                        (
                            f"{name_of(region)} records page {want:#x} for gfn {a:#x}",
                            f"the SLAT has {has}",
                        ),
                        objects=(name_of(region),),
                    )
                    return
                del b
