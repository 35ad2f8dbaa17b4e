"""What is known of one page frame: its counts, and where it is mapped (spec.md 1.1, 1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm

Runs = list[tuple[int, int]]
"""Half-open ranges of pfns, or of swap slots."""

PIN_BIAS: Final = 1024
"""What one pin adds to the reference count of a small folio; of a large one it is 1."""


class FrameState(NamedTuple):
    """Counts of a frame. ``refs`` of 0 means free; a pin counts once in ``pins``, 1024 in ``refs``.

    In a large folio a frame with ``refs`` of 0 is kept until the folio goes or is split.
    ``lazyfree``: MADV_FREE was applied, so it may be dropped while clean.
    """

    refs: int = 0
    maps: int = 0
    pins: int = 0
    lazyfree: bool = False

    @property
    def kind_of_value(self) -> str:
        """What footprints tell frames apart by."""
        return "mapped" if self.maps else "held" if self.refs else "free"


class Mapping(NamedTuple):
    """Where a frame is mapped (the reverse map of anonymous memory)."""

    mm: Mm
    vpn: int

    def advance(self, n: int) -> Mapping:
        """Return the mapping of the frame ``n`` further in the run."""
        return Mapping(self.mm, self.vpn + n)
