"""A partition's second-level page table and the pool pages that it is made of (spec.md 5.4).

Each 2 MiB of guest space with a 4 KiB entry needs a table page; a 2 MiB entry needs none. So a
4 KiB change inside a 2 MiB entry splits it and takes a page, and a LARGE map over 4 KiB entries
frees one. Runs of elements do here what the same elements would do one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mshv_async.hyperv.codes import LARGE_PAGES, HvStatus
from mshv_async.hyperv.slat import NOACCESS, SlatEntry
from mshv_async.hyperv.slat_rules import DEFAULT_RULES, SlatRules
from mshv_async.sim import RangeMap, Shared

if TYPE_CHECKING:
    from mshv_async.hyperv.pool import Pool

_SUCCESS: Final = HvStatus.SUCCESS
_DENIED: Final = HvStatus.OPERATION_DENIED
_OF_ROOT: Final = {
    HvStatus.SUCCESS: HvStatus.SUCCESS,
    HvStatus.INSUFFICIENT_MEMORY: HvStatus.INSUFFICIENT_ROOT_MEMORY,
    HvStatus.INSUFFICIENT_CONTIGUOUS_MEMORY: HvStatus.INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY,
}

Done = tuple[int, HvStatus]
"""Pages done, and why no more."""


class TableBlocks(RangeMap[bool]):
    """Numbers of the 2 MiB blocks with a table page; the hypervisor orders its own accesses."""

    __slots__ = ()
    _sync = True


class GpaSpace(Shared):
    """The table of one partition.

    ``slat``: gfn to entry. ``tables``: number of the 2 MiB block to whether its table page was
    paid for, absent where the block has none. ``pool``: who pays, the root's if ``root_pays``.
    ``charged``: whether a table page costs anything.
    """

    __slots__ = ("charged", "pool", "root_pays", "rules", "slat", "strict", "tables")
    _const = ("charged", "pool", "root_pays", "rules", "slat", "strict", "tables")
    _embedded = ("slat", "tables")
    _sync = True
    _not_state = ("charged", "root_pays", "rules", "strict")  # never change

    def __init__(
        self,
        name: str,
        pool: Pool,
        *,
        charged: bool = True,
        root_pays: bool = False,
        rules: SlatRules = DEFAULT_RULES,
    ) -> None:
        super().__init__(name)
        self.pool = pool
        self.charged = charged
        self.root_pays = root_pays
        self.rules = rules
        self.strict = rules != DEFAULT_RULES
        self.slat: RangeMap[SlatEntry] = RangeMap(f"{name}.slat", linear=True)
        self.tables = TableBlocks(f"{name}.tables")

    # -- what the calls do -----------------------------------------------------------------

    def map(self, lo: int, hi: int, entry: SlatEntry) -> Done:
        """Set GFNs ``[lo, hi)`` as 4 KiB entries from ``entry``; supersedes what was there.

        Statuses: INSUFFICIENT_* when no page is left for a table; OPERATION_DENIED by the rules.
        """
        if not self.strict:
            return self._map(lo, hi, entry)
        end, status = self._changeable(lo, hi, entry)
        if not self.rules.promotion:
            done, shortage = self._map(lo, end, entry)
            return done, shortage or status
        at = lo
        while at < end:
            stop = min(end, at - at % LARGE_PAGES + LARGE_PAGES)
            done, shortage = self._map(at, stop, entry.advance(at - lo))
            self._promote(at // LARGE_PAGES)
            at += done
            if shortage:
                return at - lo, shortage
        return at - lo, status

    def map_large(self, lo: int, hi: int, entry: SlatEntry) -> Done:
        """Set 2 MiB entries over the aligned GFNs ``[lo, hi)``; small tables go to the pool."""
        status = _SUCCESS
        if self.strict:
            hi, status = self._replaceable(lo, hi, entry)
        self.slat.set(lo, hi, entry)
        self._free_tables(lo // LARGE_PAGES, hi // LARGE_PAGES)
        return hi - lo, status

    def unmap(self, lo: int, hi: int) -> Done:
        """Make GFNs ``[lo, hi)`` absent; as with ``map``, splitting a 2 MiB entry needs a page."""
        if not any(entry.large for _, _, entry in self.slat.runs(lo, hi)):
            self.slat.clear(lo, hi)
            self._free_empty_tables(lo, hi)
            return hi - lo, _SUCCESS
        end, status = self._changeable(lo, hi, None) if self.strict else (hi, _SUCCESS)
        at = lo
        while at < end:
            block = at // LARGE_PAGES
            stop = min(end, (block + 1) * LARGE_PAGES)
            shortage = self._take_table_to_split(block, at)
            if shortage:
                return at - lo, shortage
            self._split_edges(at, stop)
            self.slat.clear(at, stop)
            self._free_empty_tables(at, stop)
            at = stop
        return at - lo, status

    def unmap_large(self, lo: int, hi: int) -> Done:
        """Make the aligned GFNs ``[lo, hi)`` absent, whatever the size of their entries."""
        status = _SUCCESS
        if self.rules.unmap_large_over_small == "refused":
            hi, status = self._first_small(lo, hi)
        self.slat.clear(lo, hi)
        self._free_tables(lo // LARGE_PAGES, hi // LARGE_PAGES)
        return hi - lo, status

    def clear(self) -> list[tuple[int, int]]:
        """Drop the whole table, as FINALIZE does; return the runs that had entries."""
        runs = [(lo, hi) for lo, hi, _ in self.slat.runs(0, 1 << 52)]
        for lo, hi in runs:
            self.slat.clear(lo, hi)
        for lo, hi, _ in self.tables.runs(0, 1 << 43):
            self._free_tables(lo, hi)
        return runs

    def map_direct(self, lo: int, hi: int, entry: SlatEntry) -> None:
        """Set up entries as if mapped long ago: the pool receives what their tables cost."""
        free_of_charge = entry.kind == NOACCESS and not self.rules.no_access_tables
        if not entry.large and self.charged and not free_of_charge:
            first, end = lo // LARGE_PAGES, (hi - 1) // LARGE_PAGES + 1
            self.pool.add_tables(end - first - self.tables.total(first, end))
            self.tables.set(first, end, True)
        self.slat.set(lo, hi, entry)

    def _map(self, lo: int, hi: int, entry: SlatEntry) -> Done:
        status = _SUCCESS
        if self.charged:
            hi, status = self._take_tables(lo, hi, entry)
        if hi > lo:
            self._split_edges(lo, hi)
            self.slat.set(lo, hi, entry)
        return hi - lo, status

    # -- table pages -----------------------------------------------------------------------

    def _take_tables(self, lo: int, hi: int, entry: SlatEntry) -> Done:
        """Draw the table pages for 4 KiB entries over ``[lo, hi)``; return where that ends."""
        only_to_split = entry.kind == NOACCESS and not self.rules.no_access_tables
        for block in range(lo // LARGE_PAGES, (hi - 1) // LARGE_PAGES + 1) if lo < hi else ():
            at = max(lo, block * LARGE_PAGES)
            if only_to_split:
                shortage = self._take_table_to_split(block, at)
            else:
                shortage = self._take_table(block, at)
            if shortage:
                return at, shortage
        return hi, _SUCCESS

    def _take_table(self, block: int, gfn: int) -> HvStatus:
        if self.tables.get(block) is not None:
            return _SUCCESS
        paid = self.rules.split == "page" or not self._is_large(gfn)
        if paid:
            shortage = self.pool.draw_table()
            if shortage:
                return _OF_ROOT[shortage] if self.root_pays else shortage
        self.tables.set(block, block + 1, paid)
        return _SUCCESS

    def _take_table_to_split(self, block: int, gfn: int) -> HvStatus:
        if self.charged and self._is_large(gfn):
            return self._take_table(block, gfn)
        return _SUCCESS

    def _free_empty_tables(self, lo: int, hi: int) -> None:
        for block in range(lo // LARGE_PAGES, (hi - 1) // LARGE_PAGES + 1):
            if not self.slat.total(block * LARGE_PAGES, (block + 1) * LARGE_PAGES):
                self._free_tables(block, block + 1)

    def _free_tables(self, first: int, end: int) -> None:
        runs = self.tables.runs(first, end)
        if runs:
            self.tables.clear(first, end)
            self.pool.give_back_tables(sum(hi - lo for lo, hi, paid in runs if paid))

    # -- splitting and promotion -----------------------------------------------------------

    def _is_large(self, gfn: int) -> bool:
        entry = self.slat.get(gfn)
        return entry is not None and entry.large

    def _split_edges(self, lo: int, hi: int) -> None:
        """Turn the 2 MiB entries that ``[lo, hi)`` cuts into 4 KiB ones of the same rights."""
        self._split(lo // LARGE_PAGES, lo)
        if hi - lo > 1:
            self._split((hi - 1) // LARGE_PAGES, hi - 1)

    def _split(self, block: int, gfn: int) -> None:
        if not self._is_large(gfn):
            return
        lo, hi = block * LARGE_PAGES, (block + 1) * LARGE_PAGES
        first = self.slat.get(lo)
        assert first is not None, "a 2 MiB entry covers its block"
        self.slat.set(lo, hi, first._replace(large=False))

    def _promote(self, block: int) -> None:
        """Make one 2 MiB entry of 4 KiB ones that look alike."""
        lo, hi = block * LARGE_PAGES, (block + 1) * LARGE_PAGES
        runs = self.slat.runs(lo, hi)
        if len(runs) != 1 or runs[0][:2] != (lo, hi):
            return
        entry = runs[0][2]
        if entry.rights and not entry.large and entry.pfn % LARGE_PAGES == 0:
            self.slat.set(lo, hi, entry._replace(large=True))
            self._free_tables(block, block + 1)

    # -- refusals by the rules -------------------------------------------------------------

    def _changeable(self, lo: int, hi: int, entry: SlatEntry | None) -> Done:
        """Return up to where 4 KiB entries may be changed, into ``entry`` or into nothing."""
        for at, _, old in self.slat.runs(lo, hi):
            if (old.large and self.rules.split == "refused") or self._is_fixed(old, entry):
                return at, _DENIED
        return hi, _SUCCESS

    def _replaceable(self, lo: int, hi: int, entry: SlatEntry) -> Done:
        """Return up to where whole blocks may become 2 MiB entries."""
        status = _SUCCESS
        if self.rules.large_over_small == "refused":
            hi, status = self._first_small(lo, hi)
        for at, _, old in self.slat.runs(lo, hi):
            if self._is_fixed(old, entry):
                return at - at % LARGE_PAGES, _DENIED
        return hi, status

    def _first_small(self, lo: int, hi: int) -> Done:
        for at, _, old in self.slat.runs(lo, hi):
            if not old.large:
                return at - at % LARGE_PAGES, _DENIED
        return hi, _SUCCESS

    def _is_fixed(self, old: SlatEntry, new: SlatEntry | None) -> bool:
        """Say whether an entry's rights were mapped for good, and these are others."""
        return (
            self.rules.adjustable == "enforced"
            and new is not None
            and old.rights not in (0, new.rights)
            and not old.adjustable
        )
