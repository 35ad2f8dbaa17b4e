"""A partition's memory pool: pages that its parent deposited (spec.md 5.3).

Pages are counted, not tracked one by one: which page serves as a table cannot be seen from
outside. Frames of the host that were deposited by number are remembered, since WITHDRAW has to
give them back; those that set-up put in directly have no number.
"""

from __future__ import annotations

from typing import NamedTuple

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
    """Deposited pages of one partition: ``deposited`` in the pool, ``used`` of them in use."""

    __slots__ = ("deposited", "frames", "used")
    _const = ("frames",)
    _embedded = ("frames",)
    _sync = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.deposited = 0
        self.used = 0
        self.frames = FrameSet(f"{name}.frames")

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

    def add(self, pages: int) -> None:
        """Add pages without a frame number: set-up, or the hypervisor's own."""
        self.deposited += pages

    def add_frames(self, lo: int, hi: int) -> None:
        """Add the host frames ``[lo, hi)``."""
        self.frames.set(lo, hi, True)
        self.deposited += hi - lo

    def remove(self, most: int) -> tuple[int, tuple[PageRun, ...]]:
        """Take up to ``most`` free pages out; return how many, and the numbered frames of them.

        Numbered frames go first, the lowest first.
        """
        count = min(most, self.free)
        runs: list[PageRun] = []
        left = count
        for lo, hi, _ in self.frames.runs(0, 1 << 52):
            if not left:
                break
            take = min(left, hi - lo)
            runs.append(PageRun(take, lo))
            left -= take
        for run in runs:
            self.frames.clear(run.pfn, run.pfn + run.length)
        self.deposited -= count
        return count, tuple(runs)
