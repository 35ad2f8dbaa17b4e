"""The second-level page table of a partition: GFN to host page, rights and page size.

Three states of a GFN (spec.md 5.4): absent (a hole), inaccessible (``noaccess``), mapped (``ram``
or ``mmio``). Entries are kept as runs, so cost and memory follow what was mapped, not its size.
Table pages come from the partition's pool: one for each 2 MiB of guest space with a 4 KiB entry.
"""

from __future__ import annotations

from typing import NamedTuple

from mshv_async.hyperv.codes import (
    LARGE_PAGES,
    MAP_EXECUTABLE,
    MAP_NO_ACCESS,
    MAP_NOT_CACHED,
    MAP_PERMISSIONS_MASK,
    MAP_READABLE,
    MAP_WRITABLE,
    Access,
)
from mshv_async.hyperv.pool import Pool
from mshv_async.sim import RangeMap, Shared

RAM = "ram"
MMIO = "mmio"
NOACCESS = "noaccess"

_RIGHT = (MAP_READABLE, MAP_WRITABLE, MAP_EXECUTABLE)  # indexed by Access
assert [int(a) for a in Access] == [0, 1, 2]


class SlatEntry(NamedTuple):
    """What the table says of one GFN; ``large``: it is part of a 2 MiB entry."""

    kind: str
    pfn: int
    rights: int
    large: bool = False

    def advance(self, pages: int) -> SlatEntry:
        """Return the entry that many GFNs further in the same run."""
        if self.kind == NOACCESS:
            return self
        return SlatEntry(self.kind, self.pfn + pages, self.rights, self.large)

    def allows(self, access: Access) -> bool:
        """Say whether the entry has the right that an access needs."""
        return self.rights & _RIGHT[access] != 0


NO_ACCESS_ENTRY = SlatEntry(NOACCESS, 0, 0)
_NO_ACCESS_LARGE = SlatEntry(NOACCESS, 0, 0, large=True)


def entry_of(flags: int, pfn: int, *, large: bool) -> SlatEntry:
    """Return the entry that MAP_GPA with these flags makes; NO_ACCESS ignores the source."""
    rights = flags & MAP_PERMISSIONS_MASK
    if flags & MAP_NO_ACCESS or not rights:
        return _NO_ACCESS_LARGE if large else NO_ACCESS_ENTRY
    return SlatEntry(MMIO if flags & MAP_NOT_CACHED else RAM, pfn, rights, large)


class TableBlocks(RangeMap[bool]):
    """Numbers of the 2 MiB blocks with a table page; the hypervisor orders its own accesses."""

    __slots__ = ()
    _sync = True


class GpaSpace(Shared):
    """The table of one partition and the pool pages that it is made of.

    ``slat``: gfn to entry. ``tables``: number of the 2 MiB block to True where the block has
    4 KiB entries, hence a table page. ``charged``: whether such a page costs anything.
    """

    __slots__ = ("charged", "pool", "slat", "tables")
    _const = ("charged", "pool", "slat", "tables")
    _embedded = ("slat", "tables")
    _sync = True

    def __init__(self, name: str, pool: Pool, *, charged: bool) -> None:
        super().__init__(name)
        self.pool = pool
        self.charged = charged
        self.slat: RangeMap[SlatEntry] = RangeMap(f"{name}.slat", linear=True)
        self.tables = TableBlocks(f"{name}.tables")

    def map(self, lo: int, hi: int, entry: SlatEntry) -> int:
        """Set GFNs ``[lo, hi)`` as 4 KiB entries from ``entry``; supersedes what was there.

        Returns how many pages were done before the pool had no page left for a table.
        """
        if self.charged:
            hi = self._take_tables(lo, hi)
        if hi > lo:
            self._split_edges(lo, hi)
            self.slat.set(lo, hi, entry)
        return max(0, hi - lo)

    def map_large(self, lo: int, hi: int, entry: SlatEntry) -> None:
        """Set 2 MiB entries over the aligned GFNs ``[lo, hi)``; small tables go to the pool."""
        self.slat.set(lo, hi, entry)
        self._free_tables(lo // LARGE_PAGES, hi // LARGE_PAGES)

    def unmap(self, lo: int, hi: int) -> int:
        """Make GFNs ``[lo, hi)`` absent; as ``map``, splitting a 2 MiB entry needs a page."""
        if self.charged:
            hi = self._take_tables_to_split(lo, hi)
        if hi > lo:
            self._split_edges(lo, hi)
            self.slat.clear(lo, hi)
            self._free_empty_tables(lo, hi)
        return max(0, hi - lo)

    def unmap_large(self, lo: int, hi: int) -> None:
        """Make the aligned GFNs ``[lo, hi)`` absent, whatever the size of their entries."""
        self.slat.clear(lo, hi)
        self._free_tables(lo // LARGE_PAGES, hi // LARGE_PAGES)

    def map_direct(self, lo: int, hi: int, entry: SlatEntry) -> None:
        """Set up entries as if mapped long ago: the pool receives what their tables cost."""
        if entry.large:
            self.slat.set(lo, hi, entry)
            return
        first, end = lo // LARGE_PAGES, (hi - 1) // LARGE_PAGES + 1
        if self.charged:
            cost = end - first - self.tables.total(first, end)
            self.pool.add(cost)
            self.pool.draw(cost)
            self.tables.set(first, end, True)
        self.slat.set(lo, hi, entry)

    def clear(self) -> list[tuple[int, int]]:
        """Drop the whole table, as FINALIZE does; return the runs that had entries."""
        runs = [(lo, hi) for lo, hi, _ in self.slat.runs(0, 1 << 52)]
        for lo, hi in runs:
            self.slat.clear(lo, hi)
        for lo, hi, _ in self.tables.runs(0, 1 << 43):
            self._free_tables(lo, hi)
        return runs

    def _take_tables(self, lo: int, hi: int) -> int:
        """Draw the table pages for 4 KiB entries over ``[lo, hi)``; return where that ends."""
        for block in range(lo // LARGE_PAGES, (hi - 1) // LARGE_PAGES + 1):
            if not self._take_table(block):
                return block * LARGE_PAGES
        return hi

    def _take_table(self, block: int) -> bool:
        if self.tables.get(block) is None:
            if not self.pool.draw(1):
                return False
            self.tables.set(block, block + 1, True)
        return True

    def _take_tables_to_split(self, lo: int, hi: int) -> int:
        for block in range(lo // LARGE_PAGES, (hi - 1) // LARGE_PAGES + 1):
            entry = self.slat.get(max(lo, block * LARGE_PAGES))
            if entry is not None and entry.large and not self._take_table(block):
                return block * LARGE_PAGES
        return hi

    def _split_edges(self, lo: int, hi: int) -> None:
        """Turn the 2 MiB entries that ``[lo, hi)`` cuts into 4 KiB ones of the same rights."""
        self._split(lo // LARGE_PAGES, lo)
        self._split((hi - 1) // LARGE_PAGES, hi - 1)

    def _split(self, block: int, gfn: int) -> None:
        entry = self.slat.get(gfn)
        if entry is None or not entry.large:
            return
        lo, hi = block * LARGE_PAGES, (block + 1) * LARGE_PAGES
        first = self.slat.get(lo)
        assert first is not None, "a 2 MiB entry covers its block"
        self.slat.set(lo, hi, first._replace(large=False))

    def _free_empty_tables(self, lo: int, hi: int) -> None:
        for block in range(lo // LARGE_PAGES, (hi - 1) // LARGE_PAGES + 1):
            if not self.slat.total(block * LARGE_PAGES, (block + 1) * LARGE_PAGES):
                self._free_tables(block, block + 1)

    def _free_tables(self, first: int, end: int) -> None:
        pages = self.tables.total(first, end)
        if pages:
            self.tables.clear(first, end)
            self.pool.give_back(pages)
