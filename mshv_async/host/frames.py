"""Host page frames: generations, reference counts, contents, allocation (spec.md 1.1, 1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mshv_async.host.pte import ZERO_PFN
from mshv_async.host.reclaim import reclaim_some
from mshv_async.host.swap import LockedMap, SwapArea
from mshv_async.sim import (
    PREEMPT,
    SLEEP,
    Grain,
    Op,
    Shared,
    Tag,
    Token,
    WaitQueue,
    do,
    injected,
    oops,
    probe,
)

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm
    from mshv_async.sim import Mutex

PIN_BIAS: Final = 1024
"""What one pin adds to the reference count of a small folio."""

Runs = list[tuple[int, int]]


class FrameState(NamedTuple):
    """Counts of a frame. ``refs`` of 0 means free; a pin counts once in ``pins``, 1024 in ``refs``.

    ``gen`` changes each time the frame is freed. ``lazyfree``: MADV_FREE was applied, so it may be
    dropped while clean.
    """

    gen: Token
    refs: int = 0
    maps: int = 0
    pins: int = 0
    lazyfree: bool = False


class Mapping(NamedTuple):
    """Where a frame is mapped (the reverse map of anonymous memory)."""

    mm: Mm
    vpn: int

    def advance(self, n: int) -> Mapping:
        """Return the mapping of the frame ``n`` further in the run."""
        return Mapping(self.mm, self.vpn + n)


class HostMemory(Shared):
    """All page frames of the host, pfn 0 being the zero page, and its swap.

    ``pages`` and ``swap_pages``: sizes. ``grain``: the vpns that get steps of their own.
    ``watermark``: free pages below which a sleeping allocation first reclaims on its own thread.
    """

    __slots__ = (
        "clock_hand",
        "contents",
        "folio_locks",
        "frames",
        "free",
        "grain",
        "migration_wait",
        "nr_free",
        "pages",
        "rmap",
        "swap",
        "watermark",
    )
    _embedded = ("contents", "folio_locks", "frames", "free", "migration_wait", "rmap", "swap")
    _const = ("grain", "pages", "watermark", *_embedded)
    _sync = True

    def __init__(
        self,
        pages: int,
        swap_pages: int = 0,
        grain: Grain | None = None,
        *,
        watermark: int = 0,
        name: str = "host",
    ) -> None:
        super().__init__(name)
        self.pages = pages
        self.watermark = watermark
        self.grain = Grain(()) if grain is None else grain
        self.frames: LockedMap[FrameState] = LockedMap(f"{name}.frames")
        self.frames.set(ZERO_PFN, ZERO_PFN + 1, FrameState(Token(0), refs=1))
        self.frames.set(ZERO_PFN + 1, pages, FrameState(Token(0)))
        self.free: LockedMap[bool] = LockedMap(f"{name}.free")
        self.free.set(ZERO_PFN + 1, pages, True)
        self.nr_free = pages - 1
        self.contents: LockedMap[Tag] = LockedMap(f"{name}.contents")
        self.rmap: LockedMap[Mapping] = LockedMap(f"{name}.rmap", linear=True)
        self.swap = SwapArea(f"{name}.swap", swap_pages)
        self.clock_hand = ZERO_PFN + 1
        self.folio_locks: LockedMap[Mutex] = LockedMap(f"{name}.folio_locks")
        self.migration_wait = WaitQueue(f"{name}.migration_wait")

    # -- allocation ------------------------------------------------------------------------

    async def alloc_pages(self, n: int, site: str, gfp: str = "kernel") -> Runs | None:
        """Allocate ``n`` frames with one reference each; None if memory is short.

        ``gfp``: ``kernel`` may sleep and reclaims on this very thread when memory is low (spec.md
        6.7); ``atomic`` does neither. Failures are injected at ``alloc.<site>``.
        """
        if not await self.might_alloc(n, site, gfp):
            return None
        return self.take(n)

    async def might_alloc(self, n: int, site: str, gfp: str = "kernel") -> bool:
        """Do what an allocation of ``n`` pages does before it has them; False: it fails.

        For allocations (slab objects, arrays) whose memory itself nobody looks at.
        """
        may_sleep = gfp == "kernel"
        op = Op(f"alloc.{site}", self, kind=SLEEP if may_sleep else PREEMPT)
        await do(op)
        probe("page.alloc", self, site, gfp)
        if injected(op.label) is not None:
            return False
        if may_sleep and self.nr_free - n < self.watermark:
            await reclaim_some(self, n + self.watermark - self.nr_free)
            await do(op)
        if n > self.nr_free:
            probe("page.alloc_failed", self, site)
            return False
        return True

    def take(self, n: int) -> Runs | None:
        """Allocate frames, lowest first, without a point; None if there are not so many."""
        if n > self.nr_free:
            return None
        self.nr_free -= n
        taken: Runs = []
        for lo, hi, _ in self.free.runs(0, self.pages):
            stop = min(hi, lo + n)
            taken.append((lo, stop))
            n -= stop - lo
            if not n:
                break
        for lo, stop in taken:
            self.free.clear(lo, stop)
            for a, b, state in self.frames.runs(lo, stop):
                self.frames.set(a, b, FrameState(state.gen, refs=1))
        return taken

    def free_pages(self, pfn_lo: int, n: int) -> None:
        """Free frames: their contents die and their generation ends."""
        hi = pfn_lo + n
        for a, b, state in self.frames.runs(pfn_lo, hi):
            self.frames.set(a, b, FrameState(Token(state.gen.n + 1)))
        if self.contents:
            self.contents.clear(pfn_lo, hi)
        self.free.set(pfn_lo, hi, True)
        self.nr_free += n
        probe("frame.free", self, pfn_lo, hi)

    # -- counts ----------------------------------------------------------------------------

    def put_page(self, pfn_lo: int, n: int = 1) -> None:
        """Drop a reference on each of ``n`` frames and free those without any left."""
        self._put(pfn_lo, pfn_lo + n, 1, 0)

    def pin(self, pfn_lo: int, n: int = 1) -> None:
        """Pin each of ``n`` frames (FOLL_PIN); the zero page is left alone."""
        for a, b, s in self.frames.runs(max(pfn_lo, ZERO_PFN + 1), pfn_lo + n):
            self.frames.set(a, b, s._replace(refs=s.refs + PIN_BIAS, pins=s.pins + 1))
            probe("frame.pin", self, a, b - a)

    def unpin(self, pfn_lo: int, n: int = 1) -> None:
        """Undo one pin of each of ``n`` frames."""
        probe("frame.unpin", self, max(pfn_lo, ZERO_PFN + 1), n - (pfn_lo == ZERO_PFN))
        self._put(max(pfn_lo, ZERO_PFN + 1), pfn_lo + n, PIN_BIAS, 1)

    def _put(self, lo: int, hi: int, refs: int, pins: int) -> None:
        for a, b, s in self.frames.runs(lo, hi):
            if s.refs < refs or s.pins < pins:
                oops("page released more often than it was taken", self)
            if s.refs == refs:
                self.free_pages(a, b - a)
            else:
                self.frames.set(a, b, s._replace(refs=s.refs - refs, pins=s.pins - pins))

    def add_rmap(self, pfn_lo: int, n: int, mm: Mm, vpn: int) -> None:
        """Count a mapping of ``n`` frames at ``vpn`` and on; it holds their allocation's ref."""
        hi = pfn_lo + n
        for a, b, s in self.frames.runs(pfn_lo, hi):
            self.frames.set(a, b, FrameState(s.gen, s.refs, s.maps + 1, s.pins, s.lazyfree))
        self.rmap.set(pfn_lo, hi, Mapping(mm, vpn))

    def remove_rmap(self, pfn_lo: int, n: int) -> None:
        """Uncount a mapping; its reference stays until the page is released."""
        hi = pfn_lo + n
        for a, b, s in self.frames.runs(pfn_lo, hi):
            self.frames.set(a, b, FrameState(s.gen, s.refs, s.maps - 1, s.pins, s.lazyfree))
        self.rmap.clear(pfn_lo, hi)

    def set_lazyfree(self, pfn_lo: int, n: int, lazyfree: bool) -> None:
        """Mark frames as droppable while clean, or not."""
        for a, b, s in self.frames.runs(pfn_lo, pfn_lo + n):
            self.frames.set(a, b, s._replace(lazyfree=lazyfree))

    def state(self, pfn: int) -> FrameState:
        """Return the counts of a frame; ``oops`` if there is no such frame."""
        state = self.frames.get(pfn)
        if state is None:
            oops("no such page frame", self)
        return state

    # -- contents --------------------------------------------------------------------------

    def content(self, pfn: int) -> Tag | int:
        """Return who wrote the page last, 0 for an untouched one."""
        return self.contents.get(pfn) or 0

    def set_content(self, pfn: int, tag: Tag | int) -> None:
        """Write a page; 0 clears it."""
        if tag:
            assert isinstance(tag, Tag)
            self.contents.set(pfn, pfn + 1, tag)
        else:
            self.contents.clear(pfn, pfn + 1)
