"""Page-table entries, also the leaves of upper levels (spec.md 1.1); ``none`` is a hole."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

ZERO_PFN: Final = 0
"""The frame of the shared all-zero page; never allocated, counted or freed."""


class PteState(IntEnum):
    """What an entry is to a walker."""

    PRESENT = 1
    ZERO = 2  # present, read-only, the shared zero page
    PROTNONE = 3  # keeps its frame; any access faults
    SWAP = 4
    MIGRATION = 5  # being moved; whoever touches it waits
    HWPOISON = 6
    SPECIAL = 7  # a raw frame without a page behind it


PRESENT, ZERO, PROTNONE, SWAP = (
    PteState.PRESENT,
    PteState.ZERO,
    PteState.PROTNONE,
    PteState.SWAP,
)
_SAME_FOR_ALL = frozenset((PteState.ZERO, PteState.HWPOISON))


class Pte(NamedTuple):
    """One entry, or the first of a run: ``pfn`` (a swap slot for SWAP) counts on along the run.

    ``order``: of the leaf that maps it: 0 a page-table entry, 9 a leaf of 2 MiB, 18 of 1 GiB. A
    leaf covers its whole aligned range with one set of rights; runs are of whole leaves.
    """

    state: PteState
    pfn: int = ZERO_PFN
    write: bool = False
    dirty: bool = False
    order: int = 0

    def advance(self, n: int) -> Pte:
        """Return the entry ``n`` pages further in the same run."""
        if not n or self.state in _SAME_FOR_ALL:
            return self
        return Pte(self.state, self.pfn + n, self.write, self.dirty, self.order)

    @property
    def kind_of_value(self) -> str:
        """What footprints tell entries apart by."""
        return self.state.name

    @property
    def present(self) -> bool:
        """Whether a processor can read through it."""
        return self.state is PteState.PRESENT or self.state is PteState.ZERO

    @property
    def owns_frame(self) -> bool:
        """Whether it holds a reference to a frame of its own."""
        return self.state is PteState.PRESENT or self.state is PteState.PROTNONE


ZERO_PTE: Final = Pte(PteState.ZERO)
HUGE_ZERO_PTE: Final = Pte(PteState.ZERO, order=9)
"""The leaf of the shared huge zero page; its pages all have the zero page's pfn here."""
