"""Virtual memory areas (spec.md 1.1)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from mshv_async.host.page import PAGE_SHIFT, PMD_ORDER, PUD_ORDER

FLAGS_OF_BACKING: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "anon": frozenset(),
        "thp": frozenset({"HUGEPAGE"}),
        "hugetlb-2m": frozenset({"HUGETLB"}),
        "hugetlb-1g": frozenset({"HUGETLB"}),
        "device": frozenset({"IO", "PFNMAP"}),
    }
)
"""The flags that a mapping of each kind of memory has from the start."""

_ANONYMOUS: Final = frozenset({"anon", "thp"})

HUGETLB_ORDER: Final[Mapping[str, int]] = MappingProxyType(
    {"hugetlb-2m": PMD_ORDER, "hugetlb-1g": PUD_ORDER}
)


class Vma(NamedTuple):
    """A mapped range of addresses, half-open, in bytes and page aligned.

    ``prot``: of ``r``, ``w``, ``x``, or ``none``. ``flags``: of ``IO``, ``PFNMAP``, ``MIXEDMAP``,
    ``HUGETLB``, ``LOCKED``, ``SHARED``, ``HUGEPAGE``, ``NOHUGEPAGE``. ``pgoff`` in pages; VFIO
    keeps the first pfn there. ``backing``: a key of FLAGS_OF_BACKING.
    """

    start: int
    end: int
    prot: str = "rw"
    flags: frozenset[str] = frozenset()
    pgoff: int = 0
    backing: str = "anon"

    @property
    def readable(self) -> bool:
        """Whether user space may read it."""
        return "r" in self.prot

    @property
    def writable(self) -> bool:
        """Whether user space may write it."""
        return "w" in self.prot

    @property
    def raw(self) -> bool:
        """Whether it maps frames without pages, which neither HMM nor a pin accepts."""
        return "IO" in self.flags or "PFNMAP" in self.flags

    @property
    def anonymous(self) -> bool:
        """Whether it is private memory of ordinary pages, small or transparent huge ones."""
        return self.backing in _ANONYMOUS and not self.raw and "HUGETLB" not in self.flags

    @property
    def hugetlb_order(self) -> int:
        """The order of its huge pages if hugetlb backs it, else 0."""
        return HUGETLB_ORDER.get(self.backing, 0)

    @property
    def vpns(self) -> tuple[int, int]:
        """The half-open range of page numbers."""
        return self.start >> PAGE_SHIFT, self.end >> PAGE_SHIFT

    def part(self, lo: int, hi: int) -> Vma:
        """Return what is left of it when only the pages ``lo`` to ``hi`` stay."""
        start = lo << PAGE_SHIFT
        pgoff = self.pgoff + ((start - self.start) >> PAGE_SHIFT)
        return self._replace(start=start, end=hi << PAGE_SHIFT, pgoff=pgoff)
