"""Host page frames: reference counts, contents, allocation (spec.md 1.1, 1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.host.folio import Folio, build_pools, large_parts, put_large, take_large
from mshv_async.host.frame import PIN_BIAS, FrameState, Mapping
from mshv_async.host.page import PMD_PAGES
from mshv_async.host.placement import take_choices, take_lowest
from mshv_async.host.pte import ZERO_PFN
from mshv_async.host.swap import LockedMap, SwapArea
from mshv_async.host.watermarks import below_low, slow_path
from mshv_async.sim import (
    PREEMPT,
    SLEEP,
    Grain,
    Mailbox,
    Mutex,
    Op,
    Shared,
    Tag,
    WaitQueue,
    current_or_none,
    do,
    injected,
    oops,
    probe,
)
from mshv_async.sim.accesses import READ

if TYPE_CHECKING:
    from mshv_async.host.frame import Runs
    from mshv_async.host.mm import Mm
    from mshv_async.sim import Thread


class HostMemory(Shared):
    """All page frames of the host, pfn 0 being the zero page, and its swap.

    ``pages`` and ``swap_pages``: sizes of ordinary memory. ``grain``: the vpns that get steps of
    their own. ``thp``: as in sysfs, but ``never`` is a kernel without THP. ``hugetlb_2m`` and
    ``hugetlb_1g``: huge pages reserved at boot, beside ``pages``. ``watermark``: "min" in pages;
    below it a sleeping allocation first reclaims on its own thread, below 5/4 of it wakes kswapd.
    """

    __slots__ = (
        "_nr_free",
        "_reserve",
        "_room",
        "clock_hand",
        "contents",
        "device_pfn",
        "folio_locks",
        "folios",
        "frames",
        "free",
        "free_huge",
        "freed",
        "grain",
        "hugetlb_mutex",
        "kswapd",
        "kswapd_box",
        "large",
        "migration_wait",
        "mms",
        "oom_box",
        "oom_killer",
        "pages",
        "reclaimers",
        "rmap",
        "settled",
        "swap",
        "thp",
        "watermark",
    )
    _embedded = (
        "contents", "folio_locks", "folios", "frames", "free", "free_huge", "freed",
        "hugetlb_mutex", "kswapd_box", "migration_wait", "oom_box", "rmap", "swap",
    )  # fmt: skip
    _const = ("grain", "kswapd", "large", "oom_killer", "pages", "thp", "watermark", *_embedded)
    # Derived, fixed after set-up, a bound, and fixed after set-up.
    _not_state = ("_nr_free", "_reserve", "_room", "settled")
    _sync = True
    _parts = True

    def __init__(
        self,
        pages: int,
        swap_pages: int = 0,
        grain: Grain | None = None,
        *,
        thp: str = "never",
        hugetlb_2m: int = 0,
        hugetlb_1g: int = 0,
        watermark: int = 0,
        kswapd: bool = False,
        oom_killer: bool = False,
        name: str = "host",
    ) -> None:
        super().__init__(name)
        self.pages = pages
        self.thp = thp
        self.large = thp != "never" or hugetlb_2m > 0 or hugetlb_1g > 0
        self.watermark = watermark
        self.kswapd = kswapd
        self.oom_killer = oom_killer
        self.grain = Grain(()) if grain is None else grain
        self.frames: LockedMap[FrameState] = LockedMap(f"{name}.frames")
        self.frames.set(ZERO_PFN, ZERO_PFN + 1, FrameState(refs=1))
        self.frames.set(ZERO_PFN + 1, pages, FrameState())
        self.free: LockedMap[bool] = LockedMap(f"{name}.free")
        self.free.set(ZERO_PFN + 1, pages, True)
        self.freed: LockedMap[bool] = LockedMap(f"{name}.freed")  # first choices that were
        self._nr_free = self._room = pages - 1
        self._reserve = self._room // 4
        self.settled = ZERO_PFN + 1  # what lies below, set-up took
        self.contents: LockedMap[Tag] = LockedMap(f"{name}.contents")
        self.rmap: LockedMap[Mapping] = LockedMap(f"{name}.rmap", linear=True)
        self.swap = SwapArea(f"{name}.swap", swap_pages)
        self.clock_hand = ZERO_PFN + 1
        self.folio_locks: LockedMap[Mutex] = LockedMap(f"{name}.folio_locks")
        self.migration_wait = WaitQueue(f"{name}.migration_wait", together=True)
        self.folios: LockedMap[Folio] = LockedMap(f"{name}.folios")
        self.free_huge: LockedMap[int] = LockedMap(f"{name}.free_huge")
        self.hugetlb_mutex: Mutex | None = None
        if hugetlb_2m or hugetlb_1g:
            self.hugetlb_mutex = Mutex(f"{name}.hugetlb_fault_mutex", "hugetlb_fault_mutex")
        self.device_pfn = build_pools(self, hugetlb_2m, hugetlb_1g)
        self.mms: tuple[Mm, ...] = ()
        self.reclaimers: tuple[Thread, ...] = ()
        self.kswapd_box: Mailbox[bool] | None = None
        self.oom_box: Mailbox[Mm] | None = None
        if kswapd:
            self.kswapd_box = Mailbox(f"{name}.kswapd", 1)
        if oom_killer:
            self.oom_box = Mailbox(f"{name}.oom_reaper")

    def device_pfns(self, npages: int) -> int:
        """Return the first of ``npages`` pfns above RAM for device memory, 2 MiB aligned."""
        first = self.device_pfn
        self.device_pfn += -(-npages // PMD_PAGES) * PMD_PAGES
        self.frames.set(first, first + npages, FrameState(refs=1))
        return first

    # -- allocation ------------------------------------------------------------------------

    async def alloc_pages(self, n: int, site: str, gfp: str = "kernel") -> Runs | None:
        """Allocate ``n`` frames with one reference each; None if memory is short.

        ``gfp``: ``kernel`` may sleep and reclaims on this very thread when memory is low (spec.md
        6.7); ``atomic`` does neither. Failures are injected at ``alloc.<site>``.
        """
        if not await self.might_alloc(n, site, gfp):
            return None
        return take_lowest(self, n)

    async def reserve_pages(self, n: int, site: str) -> bool:
        """Allocate ``n`` frames for a fault, as :meth:`alloc_pages`; False if memory is short.

        Nobody can tell which they are before an entry points to them: until then they only count.
        """
        if not await self.might_alloc(n, site):
            return False
        _told_room(self, "ask")  # also if it looked how many there are: others that look see it
        self._nr_free -= n
        return True

    def take_reserved(self, mm: Mm, vpn: int, n: int) -> Runs:
        """Take ``n`` of the frames that were reserved, for the entries from ``vpn`` on, in order.

        Which they are: :func:`~mshv_async.host.placement.take_choices`.
        """
        self._nr_free += n
        return take_choices(self, mm, vpn, n)

    async def give_back(self, n: int) -> None:
        """Return what was reserved and not taken; a step if there is any."""
        if n:
            await do(Op("page.free", self))
            _told_room(self, "ask")
            self._nr_free += n

    async def alloc_folio(self, order: int, site: str, gfp: str = "kernel") -> Folio | None:
        """Allocate a large folio, as :meth:`alloc_pages`; None also if no block is free.

        ``gfp`` ``light``: may sleep, but neither reclaims nor waits for memory.
        """
        if not await self.might_alloc(1 << order, site, gfp, costly=True):
            return None
        return take_large(self, order)

    async def might_alloc(
        self, n: int, site: str, gfp: str = "kernel", *, costly: bool = False
    ) -> bool:
        """Do what an allocation of ``n`` pages does before it has them; False: it fails.

        For allocations (slab objects, arrays) whose memory itself nobody looks at. ``costly``: one
        block of a high order, for which nobody is killed.
        """
        may_sleep = gfp != "atomic"
        op = Op(f"alloc.{site}", self, kind=SLEEP if may_sleep else PREEMPT)
        await do(op)
        probe("page.alloc", self, site, gfp)
        if injected(op.label) is not None:
            return False
        if self._has_plenty(n):
            return True
        if self.kswapd:
            below_low(self, n)
        if gfp == "kernel" and self.nr_free - n < self.watermark:
            await slow_path(self, n, op, site, costly=costly)
        if n > self.nr_free:
            probe("page.alloc_failed", self, site)
            return False
        return True

    @property
    def nr_free(self) -> int:
        """How many frames are free. Who asks depends on all that are taken and given back."""
        self.free.look(0, self.pages)
        _told_room(self, READ)
        return self._nr_free

    def _has_plenty(self, n: int) -> bool:
        """Say whether memory is far from low, whatever comes first, and ``n`` frames can go.

        That is: it would not be low if nobody had given anything back since set-up. Such an
        allocation does not depend on the others that there were so far, nor they on it. One for
        which it is not so asks for :attr:`nr_free`, and depends on them all.
        """
        self._room -= n
        if n > self._reserve or self._room - self._reserve < self.watermark * 5 // 4:
            return False
        _told_room(self, "ask")
        return True

    def take(self, n: int) -> Runs | None:
        """Allocate frames, without a point; None if there are not so many.

        Which they are: :func:`~mshv_async.host.placement.take_lowest`.
        """
        if not self._has_plenty(n) and n > self.nr_free:
            return None
        return take_lowest(self, n)

    def claim(self, runs: Runs) -> Runs:
        """Take free frames, with one reference each; return them."""
        for lo, hi in runs:
            self._taken(lo, hi)
            self.frames.set(lo, hi, FrameState(refs=1))
        return runs

    def take_block(self, order: int) -> int | None:
        """Take the lowest free aligned block, without a point; None: there is none."""
        size = 1 << order
        seen, found = self.pages, None
        for lo, hi in self.free.spans(0, self.pages):
            head = -(-lo >> order) << order
            if head + size <= hi:
                seen, found = head + size, head
                break
        self.free.look(0, seen)
        if found is not None:
            self._taken(found, found + size)
        return found

    def _taken(self, lo: int, hi: int) -> None:
        self.free.clear(lo, hi)
        self._nr_free -= hi - lo
        if current_or_none() is None:
            self.settled = max(self.settled, hi)
            self._room = self._nr_free
            self._reserve = self._room // 4

    def folio(self, pfn: int) -> Folio:
        """Return the folio that a frame belongs to; an ordinary page is one of order 0."""
        return self.folios.get(pfn) or Folio(pfn)

    def free_pages(self, pfn_lo: int, n: int) -> None:
        """Free frames: their contents die."""
        hi = pfn_lo + n
        self.frames.set(pfn_lo, hi, FrameState())
        if self.contents.worth_asking and self.contents.runs(pfn_lo, hi):
            self.contents.clear(pfn_lo, hi)
        self.free.set(pfn_lo, hi, True)
        self.freed.set(max(pfn_lo, self.pages - self.pages // 4), min(hi, self.pages), True)
        self._nr_free += n
        probe("frame.free", self, pfn_lo, hi)

    # -- counts ----------------------------------------------------------------------------

    def get_page(self, pfn: int) -> None:
        """Take a reference on a frame that somebody holds."""
        self.frames.set(pfn, pfn + 1, self.state(pfn)._replace(refs=self.state(pfn).refs + 1))

    def put_page(self, pfn_lo: int, n: int = 1) -> None:
        """Drop a reference on each of ``n`` frames and free those without any left."""
        self._put(pfn_lo, pfn_lo + n, 1, 0)

    def pin(self, pfn_lo: int, n: int = 1) -> None:
        """Pin each of ``n`` frames (FOLL_PIN); the zero page is left alone."""
        lo, hi = max(pfn_lo, ZERO_PFN + 1), pfn_lo + n
        for x, y, folio in large_parts(self, lo, hi):
            bias = PIN_BIAS if folio is None else 1
            for a, b, s in self.frames.runs(x, y):
                self.frames.set(a, b, s._replace(refs=s.refs + bias, pins=s.pins + 1))
        if lo < hi:
            probe("frame.pin", self, lo, hi - lo)

    def unpin(self, pfn_lo: int, n: int = 1) -> None:
        """Undo one pin of each of ``n`` frames."""
        lo, hi = max(pfn_lo, ZERO_PFN + 1), pfn_lo + n
        if lo < hi:
            probe("frame.unpin", self, lo, hi - lo)
        for a, b, folio in large_parts(self, lo, hi):
            self._put(a, b, PIN_BIAS if folio is None else 1, 1)

    def _put(self, lo: int, hi: int, refs: int, pins: int) -> None:
        if self.large and self.folios.runs(lo, hi):
            for a, b, folio in large_parts(self, lo, hi):
                if folio is not None:
                    put_large(self, folio, (a, b), refs, pins)
                else:
                    self._put(a, b, refs, pins)
            return
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
            self.frames.set(a, b, FrameState(s.refs, s.maps + 1, s.pins, s.lazyfree))
        self.rmap.set(pfn_lo, hi, Mapping(mm, vpn))

    def remove_rmap(self, pfn_lo: int, n: int) -> None:
        """Uncount a mapping; its reference stays until the page is released."""
        hi = pfn_lo + n
        for a, b, s in self.frames.runs(pfn_lo, hi):
            self.frames.set(a, b, FrameState(s.refs, s.maps - 1, s.pins, s.lazyfree))
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


def _told_room(host: HostMemory, mode: str) -> None:
    thread = current_or_none()
    if thread is not None:
        thread.rt.told((host.name, "room"), mode)
