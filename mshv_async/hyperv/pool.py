"""A partition's memory pool: pages that its parent deposited (spec.md 5.3).

Pages are counted, not tracked one by one: which page serves as a table cannot be seen from
outside. Frames of the host that were deposited by number are remembered, since WITHDRAW has to
give them back; those that set-up put in directly have no number, are consecutive, and are used
first.
"""

from __future__ import annotations

from typing import NamedTuple

from mshv_async.hyperv.codes import HvStatus
from mshv_async.sim import RangeMap, Shared


class PageRun(NamedTuple):
    """``length`` consecutive host pages from ``pfn``; 2 MiB pages in a LARGE call's list."""

    length: int
    pfn: int


class PoolCosts(NamedTuple):
    """Pool pages that a call draws for its partition.

    Not established by any source: the defaults are what the driver deposits beforehand. With
    ``tables`` each 2 MiB of guest space that has a 4 KiB entry costs one page.
    """

    create_partition: int = 0
    initialize: int = 208
    create_vp: int = 90
    tables: bool = True


class FrameSet(RangeMap[bool]):
    """Host frames in a pool; the hypervisor orders its own accesses."""

    __slots__ = ()
    _sync = True


class Pool(Shared):
    """Deposited pages of one partition: ``deposited`` in the pool, ``used`` of them in use.

    ``contiguous``: table pages are taken in groups of so many consecutive pages, ``groups`` the
    numbered frames of them. Of those groups ``tables`` pages serve and ``spare`` do not; the
    groups go back when no page of them serves.
    """

    __slots__ = ("contiguous", "deposited", "frames", "groups", "spare", "tables", "used")
    _const = ("contiguous", "frames", "groups")
    _embedded = ("frames", "groups")
    _sync = True

    def __init__(self, name: str, *, contiguous: int = 1) -> None:
        super().__init__(name)
        self.contiguous = contiguous
        self.deposited = 0
        self.used = 0
        self.frames = FrameSet(f"{name}.frames")
        self.groups = FrameSet(f"{name}.groups")
        self.tables = 0
        self.spare = 0

    @property
    def free(self) -> int:
        """Pages that a call may draw or a WITHDRAW take."""
        return self.deposited - self.used

    def draw(self, pages: int) -> bool:
        """Take pages into use; False, and nothing taken, when too few are free."""
        if pages > self.deposited - self.used:
            return False
        if pages:
            self.used += pages
        return True

    def give_back(self, pages: int) -> None:
        """Return pages from use to the free ones."""
        if pages:
            assert pages <= self.used, "a pool page is given back once"
            self.used -= pages

    # -- table pages -----------------------------------------------------------------------

    def draw_table(self) -> HvStatus:
        """Take a page for a table; INSUFFICIENT_MEMORY or INSUFFICIENT_CONTIGUOUS_MEMORY."""
        if self.contiguous == 1:
            return HvStatus.SUCCESS if self.draw(1) else HvStatus.INSUFFICIENT_MEMORY
        if not self.spare:
            shortage = self._draw_group()
            if shortage:
                return shortage
        self.spare -= 1
        self.tables += 1
        return HvStatus.SUCCESS

    def give_back_tables(self, pages: int) -> None:
        """Return pages that served as tables."""
        if self.contiguous == 1:
            self.give_back(pages)
            return
        self.tables -= pages
        self.spare += pages
        if not self.tables and self.spare:
            self.give_back(self.spare)
            self.spare = 0
            self.groups.clear(0, 1 << 52)

    def add_tables(self, pages: int) -> None:
        """Add pages that serve as tables already: set-up."""
        self.deposited += pages
        self.used += pages
        if self.contiguous > 1:
            self.tables += pages

    def _draw_group(self) -> HvStatus:
        pages = self.contiguous
        if self.free < pages:
            return HvStatus.INSUFFICIENT_MEMORY
        if self._free_without_number() < pages:
            for lo, hi, taken in self._frames_and_groups():
                if not taken and hi - lo >= pages:
                    self.groups.set(lo, lo + pages, True)
                    break
            else:
                return HvStatus.INSUFFICIENT_CONTIGUOUS_MEMORY
        self.used += pages
        self.spare += pages
        return HvStatus.SUCCESS

    def _free_without_number(self) -> int:
        numbered = self.frames.total(0, 1 << 52)
        elsewhere = self.used - self.groups.total(0, 1 << 52)
        return self.deposited - numbered - elsewhere

    def _frames_and_groups(self) -> list[tuple[int, int, bool]]:
        """Return the numbered frames as runs, each within groups or outside."""
        return [
            (a, b, taken is not None)
            for lo, hi, _ in self.frames.runs(0, 1 << 52)
            for a, b, taken in self.groups.pieces(lo, hi)
        ]

    # -- deposit and withdrawal ------------------------------------------------------------

    def add(self, pages: int) -> None:
        """Add pages without a frame number: set-up, or the hypervisor's own."""
        self.deposited += pages

    def add_frames(self, lo: int, hi: int) -> None:
        """Add the host frames ``[lo, hi)``."""
        self.frames.set(lo, hi, True)
        self.deposited += hi - lo

    def remove_frames(self, runs: tuple[PageRun, ...]) -> None:
        """Take these numbered frames out again; as many pages are free."""
        for run in runs:
            self.frames.clear(run.pfn, run.pfn + run.length)
            self.deposited -= run.length

    def remove(self, most: int) -> tuple[int, tuple[PageRun, ...]]:
        """Take up to ``most`` free pages out; return how many, and the numbered frames of them.

        Numbered frames go first, the lowest first.
        """
        count = min(most, self.free)
        runs: list[PageRun] = []
        left = count
        for lo, hi, taken in self._frames_and_groups():
            if not left:
                break
            if taken:
                continue
            take = min(left, hi - lo)
            runs.append(PageRun(take, lo))
            left -= take
        self.remove_frames(tuple(runs))
        self.deposited -= left  # pages without a number
        return count, tuple(runs)
