"""Which address of the VMM's process stands behind a guest page.

Set-up regions and the ``map`` operations of programs are placed in file order. A region with its
own ``uaddr`` lies there. Any other has whole free blocks of 2 MiB to itself (1 GiB for huge pages
of that size), from a fixed base on, and begins at its gfn modulo that many pages, so that guest
and host page numbers are aligned alike. A ``map`` without ``uaddr`` of pages that all have one
contiguous address already keeps it: mapping a range again finds the memory that was there.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mshv_async.scenario.errors import Misfit
from mshv_async.scenario.model import BackingRun
from mshv_async.scenario.quantities import PAGE_SIZE, UADDR_LIMIT

UADDR_BASE: Final = 0x1000_0000_0000
"""Where addresses begin that the scenario does not choose; leaves room for the largest guest."""

_BOUNDARY: Final = {"hugetlb-1g": 1 << 30}
_HUGE_PAGE: Final = {"hugetlb-2m": 1 << 21, "hugetlb-1g": 1 << 30}


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Guest pages with an address: ``pages`` from ``gfn`` on lie at ``uaddr`` (bytes) on.

    ``origin`` is the dotted key of the region or operation that says so.
    """

    gfn: int
    pages: int
    uaddr: int
    backing: tuple[BackingRun, ...]
    origin: str

    @property
    def end(self) -> int:
        """Address after the last byte."""
        return self.uaddr + self.pages * PAGE_SIZE

    def address(self, gfn: int, pages: int = 1) -> int | None:
        """Return the address of guest pages that lie wholly in here, else None."""
        if not self.gfn <= gfn <= gfn + pages <= self.gfn + self.pages:
            return None
        return self.uaddr + (gfn - self.gfn) * PAGE_SIZE

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any byte of ``start`` … ``end`` belongs to these pages."""
        return self.uaddr < end and start < self.end


class Addresses(msgspec.Struct, frozen=True):
    """The address table of a scenario."""

    placed: tuple[Placed, ...] = ()

    def candidates(self, gfn: int, pages: int = 1) -> tuple[int, ...]:
        """Return every address that the scenario gives these guest pages as a whole, ascending."""
        found = {p.address(gfn, pages) for p in self.placed} - {None}
        return tuple(sorted(address for address in found if address is not None))

    def address(self, gfn: int, pages: int = 1) -> int:
        """Return the address behind guest pages; ``Misfit`` where there is none or several."""
        where = f"{gfn:#x}" if pages == 1 else f"{gfn:#x}…{gfn + pages - 1:#x}"
        starts: set[int] = set()
        reached = gfn
        for placed in sorted(self.placed, key=lambda p: p.gfn):
            low, high = max(gfn, placed.gfn), min(gfn + pages, placed.gfn + placed.pages)
            if low < high:
                starts.add(placed.uaddr + (gfn - placed.gfn) * PAGE_SIZE)
                reached = max(reached, high) if low <= reached else reached
        if reached < gfn + pages:
            found = f"{where}, to which no region or map gives an address"
            raise Misfit(found, self._known())
        if len(starts) > 1:
            addresses = " and ".join(f"{address:#x}" for address in sorted(starts))
            raise Misfit(f"{where}, which has several addresses ({addresses})", "@ADDR here")
        return starts.pop()

    def of(self, origin: str) -> Placed:
        """Return what a region or operation put into the table; ``origin`` is its dotted key."""
        return next(placed for placed in self.placed if placed.origin == origin)

    def place(
        self,
        gfn: int,
        backing: tuple[BackingRun, ...],
        origin: str,
        uaddr: int | None = None,
    ) -> Addresses:
        """Return a table with one more placed; ``Misfit`` where the address cannot be."""
        pages = sum(run.pages for run in backing)
        if uaddr is None:
            uaddr = self._free(gfn, pages, backing)
        new = Placed(gfn=gfn, pages=pages, uaddr=uaddr, backing=backing, origin=origin)
        if new.end > UADDR_LIMIT:
            raise Misfit(f"{uaddr:#x} to {new.end:#x}", f"addresses below {UADDR_LIMIT:#x}")
        _check_alignment(new)
        return Addresses((*self.placed, new))

    def _free(self, gfn: int, pages: int, backing: tuple[BackingRun, ...]) -> int:
        boundary = max(_BOUNDARY.get(run.backing, 1 << 21) for run in backing)
        offset = gfn * PAGE_SIZE % boundary
        length = -(-(offset + pages * PAGE_SIZE) // boundary) * boundary
        start = UADDR_BASE
        for taken in sorted(self.placed, key=lambda p: p.uaddr):
            if taken.overlaps(start, start + length):
                start = -(-taken.end // boundary) * boundary
        return start + offset

    def _known(self) -> str:
        ranges = [f"{p.gfn:#x}…{p.gfn + p.pages - 1:#x} ({p.origin})" for p in self.placed]
        return ", ".join(ranges) or "@ADDR, as the scenario has no region"


def _check_alignment(placed: Placed) -> None:
    """Refuse huge pages of hugetlb that do not start and end on their own size."""
    address = placed.uaddr
    for run in placed.backing:
        unit = _HUGE_PAGE.get(run.backing, PAGE_SIZE)
        length = run.pages * PAGE_SIZE
        if address % unit or length % unit:
            raise Misfit(
                f"{run.backing} memory of {length:#x} bytes at {address:#x}",
                f"an address and a size that are multiples of {unit:#x}",
            )
        address += length
