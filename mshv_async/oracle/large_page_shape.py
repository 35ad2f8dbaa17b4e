"""large-page-shape: a 2 MiB operation is asked for only where there are 2 MiB (spec.md 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.hyperv import LARGE_PAGES, MAP_LARGE_PAGE, MAP_NO_ACCESS, UNMAP_LARGE_PAGE, HvCall
from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import gfn_of, is_mmio, vpn_of
from mshv_async.oracle.watching import watches
from mshv_async.sim import current, name_of

if TYPE_CHECKING:
    from mshv_async.driver import MshvMemRegion
    from mshv_async.hyperv import HvPartition


class LargePageShape(Invariant):
    """Judged when the operation is issued, whatever the hypervisor then says.

    LARGE needs a gfn and, unless the operation takes access away, a host page at a 2 MiB boundary,
    and may not reach beyond its region. All 512 pages of each large page that is mapped must be
    the ones that belong there: those that the driver recorded, or that the VMM's entries name.
    """

    __slots__ = ()
    invariant = "large-page-shape"
    summary = "LARGE is asked for only if gfn, host page and count are aligned and all pages right"

    @watches("slat.op")
    def on_operation(
        self, partition: HvPartition, code: HvCall, gfn: int, pages: int, flags: int, pfn: int
    ) -> None:
        """Look at one run of sources of a MAP or UNMAP that is being issued."""
        unmap = code is HvCall.UNMAP_GPA
        if not flags & (UNMAP_LARGE_PAGE if unmap else MAP_LARGE_PAGE):
            return
        if partition is not self.world.hv_partition:
            return
        sourced = not unmap and not flags & MAP_NO_ACCESS
        wrong = self._misaligned(gfn, pfn if sourced else 0) or self._outside(gfn, pages)
        if not wrong and sourced:
            wrong = self._foreign(gfn, pages, pfn)
        if wrong:
            source = f" from page {pfn:#x}" if sourced else ""
            what = "unmap" if unmap else "map" if sourced else "no-access"
            about, *story = wrong
            self.world.violated(
                self.name,
                (
                    f"{current().name} asks for a LARGE {what} of {pages} pages at gfn {gfn:#x}"
                    f"{source}",
                    *story,
                ),
                functions=(self.world.caller(),),
                about=about,
                objects=tuple(name_of(r) for r in self.world.owners(gfn)),
            )

    def _misaligned(self, gfn: int, pfn: int) -> tuple[str, ...]:
        if gfn % LARGE_PAGES:
            begins = gfn - gfn % LARGE_PAGES
            return (
                "gfn",
                f"gfn {gfn:#x} is not at a 2 MiB boundary",
                f"the large page there begins at gfn {begins:#x}",
            )
        if pfn % LARGE_PAGES:
            head = pfn - pfn % LARGE_PAGES
            return (
                "host page",
                f"host page {pfn:#x} is not at a 2 MiB boundary",
                f"page {pfn - head} of the 2 MiB at host page {head:#x}, or a page of its own",
            )
        return ()

    def _outside(self, gfn: int, pages: int) -> tuple[str, ...]:
        owners = self.world.owners(gfn)
        if not owners or any(gfn + pages <= r.start_gfn + r.nr_pages for r in owners):
            return ()
        region = owners[0]
        end = region.start_gfn + region.nr_pages
        return (
            "extent",
            f"{name_of(region)} ends at gfn {end:#x}, {gfn + pages - end} pages earlier",
            "pages that are nobody's, or another region's, would be changed",
        )

    def _foreign(self, gfn: int, pages: int, pfn: int) -> tuple[str, ...]:
        for region in self.world.owners(gfn):
            if is_mmio(region):
                continue
            wrong = self._wrong_page(region, gfn, pages, pfn)
            if wrong is not None:
                return wrong
        return ()

    def _wrong_page(
        self, region: MshvMemRegion, gfn: int, pages: int, pfn: int
    ) -> tuple[str, ...] | None:
        at = gfn - region.start_gfn
        for lo, hi, page in region.pages.pieces(at, at + pages):
            if page is not None and page.pfn == pfn + lo - at:
                continue
            vpn = vpn_of(region, region.start_gfn + lo)
            for a, _, pte in self.world.mm.ptes.pieces(vpn, vpn + hi - lo):
                there = gfn_of(region, a)
                want = pfn + there - gfn
                if pte is None or not pte.owns_frame or pte.pfn != want:
                    recorded = region.pages.get(there - region.start_gfn)
                    has = "none" if recorded is None else f"{recorded.pfn:#x}"
                    return (
                        "pages",
                        f"that gives gfn {there:#x} host page {want:#x}",
                        f"which is not its page: the driver recorded {has}",
                    )
        return None
