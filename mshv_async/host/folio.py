"""Folios: runs of frames that are allocated, pinned and freed as one (spec.md 1.1, 1.2).

A large folio is kept whole until all of its frames are let go, or until it is split: frames of it
that nobody maps any more are not free before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mshv_async.host.frame import FrameState
from mshv_async.host.page import PMD_ORDER, PMD_PAGES, PUD_ORDER
from mshv_async.sim import oops, probe

if TYPE_CHECKING:
    from mshv_async.host.frames import HostMemory


class Folio(NamedTuple):
    """2^``order`` frames from ``head`` on; ``hugetlb``: they belong to a reserved pool."""

    head: int
    order: int = 0
    hugetlb: bool = False

    @property
    def pages(self) -> int:
        """How many frames it has."""
        return 1 << self.order

    @property
    def end(self) -> int:
        """The frame behind its last one."""
        return self.head + (1 << self.order)


def build_pools(host: HostMemory, small: int, large: int) -> int:
    """Lay out the reserved huge pages above ordinary memory; return where device memory begins."""
    at = host.pages
    for order, count in ((PMD_ORDER, small), (PUD_ORDER, large)):
        for _ in range(count):
            head = -(-at >> order) << order
            at = head + (1 << order)
            host.frames.set(head, at, FrameState())
            host.folios.set(head, at, Folio(head, order, hugetlb=True))
            host.free_huge.set(head, at, order)
    return -(-at // PMD_PAGES) * PMD_PAGES


def take_large(host: HostMemory, order: int) -> Folio | None:
    """Take the lowest free aligned block for a folio, without a point; None: there is none."""
    head = host.take_block(order)
    if head is None:
        return None
    folio = Folio(head, order)
    host.folios.set(head, folio.end, folio)
    _begin(host, folio)
    return folio


def take_hugetlb(host: HostMemory, order: int) -> Folio | None:
    """Take the lowest huge page of the pool of an order, without a point; None: it is empty."""
    for lo, _, size in host.free_huge.runs(host.pages, host.device_pfn):
        if size == order:
            host.free_huge.clear(lo, lo + (1 << order))
            folio = host.folio(lo)
            _begin(host, folio)
            return folio
    return None


def large_parts(host: HostMemory, lo: int, hi: int) -> list[tuple[int, int, Folio | None]]:
    """Cut frames into those of each large folio and, with None, ordinary ones."""
    if not host.large:
        return [(lo, hi, None)] if lo < hi else []
    return host.folios.pieces(lo, hi)


def put_large(host: HostMemory, folio: Folio, part: tuple[int, int], refs: int, pins: int) -> None:
    """Drop references on frames of a large folio; without any left, all of it is freed."""
    for a, b, s in host.frames.runs(*part):
        if s.refs < refs or s.pins < pins:
            oops("page released more often than it was taken", host)
        host.frames.set(a, b, s._replace(refs=s.refs - refs, pins=s.pins - pins))
    if not any(s.refs for _, _, s in host.frames.runs(folio.head, folio.end)):
        _free(host, folio)


def _begin(host: HostMemory, folio: Folio) -> None:
    host.frames.set(folio.head, folio.end, FrameState(1))


def _free(host: HostMemory, folio: Folio) -> None:
    if not folio.hugetlb:
        host.folios.clear(folio.head, folio.end)
        host.free_pages(folio.head, folio.pages)
        return
    host.frames.set(folio.head, folio.end, FrameState())
    host.contents.clear(folio.head, folio.end)
    host.free_huge.set(folio.head, folio.end, folio.order)
    probe("frame.free", host, folio.head, folio.end)


def dissolve(host: HostMemory, folio: Folio) -> None:
    """Make a folio ordinary pages; those that nobody holds any more are freed now."""
    host.folios.clear(folio.head, folio.end)
    for a, b, s in host.frames.runs(folio.head, folio.end):
        if not s.refs:
            host.free_pages(a, b - a)
    probe("folio.split", host, folio.head)


def pinned(host: HostMemory, folio: Folio) -> bool:
    """Whether any of its frames is pinned, which keeps it whole."""
    return any(s.pins for _, _, s in host.frames.runs(folio.head, folio.end))


def loose(host: HostMemory) -> list[Folio]:
    """Return the folios with frames that splitting them would free (deferred split)."""
    found: list[Folio] = []
    for _, _, folio in host.folios.runs(0, host.pages):
        frames = host.frames.runs(folio.head, folio.end)
        if any(not s.refs for _, _, s in frames) and not any(s.pins for _, _, s in frames):
            found.append(folio)
    return found
