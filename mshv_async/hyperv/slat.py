"""The second-level page table of a partition: GFN to host page, rights and page size.

Three states of a GFN (spec.md 5.4): absent (a hole), inaccessible (``noaccess``), mapped (``ram``
or ``mmio``). Entries are kept as runs, so cost and memory follow what was mapped, not its size.
"""

from __future__ import annotations

from typing import NamedTuple

from mshv_async.hyperv.codes import (
    MAP_ADJUSTABLE,
    MAP_EXECUTABLE,
    MAP_NO_ACCESS,
    MAP_NOT_CACHED,
    MAP_PERMISSIONS_MASK,
    MAP_READABLE,
    MAP_WRITABLE,
    Access,
)

RAM = "ram"
MMIO = "mmio"
NOACCESS = "noaccess"

_RIGHT = (MAP_READABLE, MAP_WRITABLE, MAP_EXECUTABLE)  # indexed by Access
assert [int(a) for a in Access] == [0, 1, 2]


class SlatEntry(NamedTuple):
    """What the table says of one GFN.

    ``large``: it is part of a 2 MiB entry. ``adjustable``: it was mapped with that flag.
    """

    kind: str
    pfn: int
    rights: int
    large: bool = False
    adjustable: bool = False

    def advance(self, pages: int) -> SlatEntry:
        """Return the entry that many GFNs further in the same run."""
        if self.kind == NOACCESS:
            return self
        return SlatEntry(self.kind, self.pfn + pages, self.rights, self.large, self.adjustable)

    @property
    def kind_of_value(self) -> str:
        """What footprints tell entries apart by."""
        return self.kind

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
    kind = MMIO if flags & MAP_NOT_CACHED else RAM
    return SlatEntry(kind, pfn, rights, large, flags & MAP_ADJUSTABLE != 0)
