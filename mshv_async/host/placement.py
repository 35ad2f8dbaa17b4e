"""Which free frames an allocation gets: chosen so that it says little about earlier ones.

The kernel's lists make it depend on all that came before. Here two histories that differ in nothing
else mostly end in the same frames, and so in one state instead of two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mshv_async.host.pte import ZERO_PFN
from mshv_async.sim import current_or_none

if TYPE_CHECKING:
    from mshv_async.host.frame import Runs
    from mshv_async.host.frames import HostMemory
    from mshv_async.host.mm import Mm

BATCH: Final = 64
"""At most so many frames are between the places at which two threads begin to look for some."""

LISTS: Final = 32
"""How many such places there are."""


def take_lowest(host: HostMemory, n: int) -> Runs:
    """Take ``n`` frames of which so many are free, the lowest first.

    Small allocations of a thread begin at a place of its own, as if from its processor's list: so
    which frames it gets does not depend on what others got.
    """
    home = _home(host, n)
    found = host.free.lowest(home, host.pages, n)
    rest = n - sum(hi - lo for lo, hi in found)
    if rest:
        found += host.free.lowest(ZERO_PFN + 1, home, rest)
    return host.claim(found)


def _home(host: HostMemory, n: int) -> int:
    """Return where the current thread begins to look for ``n`` frames."""
    thread = current_or_none()
    batch = max(1, min(BATCH, host.pages // (2 * LISTS)))
    if thread is None or n > batch:
        return ZERO_PFN + 1
    home = host.settled + thread.tid % LISTS * batch
    return home if home < host.pages else ZERO_PFN + 1 + home % (host.pages - 1)


def take_choices(host: HostMemory, mm: Mm, vpn: int, n: int) -> Runs:
    """Take ``n`` frames of which so many are free, for the pages from ``vpn`` on, in order.

    Each page of an address space has a frame that is its first choice, and one that is its
    second, for when the first is not free or was freed before: while they are free, which frame a
    page has says little about the past, but that it is another one than it was.
    """
    span = host.pages // 4
    lo = (vpn + mm.colour) % span + host.pages - span if span else host.pages
    if lo + n > host.pages:
        return take_lowest(host, n)
    pieces = [
        (a, b, free is not None and freed is None)
        for x, y, free in host.free.pieces(lo, lo + n)
        for a, b, freed in host.freed.pieces(x, y)
    ]
    host.claim([(a, b) for a, b, first in pieces if first])
    taken: Runs = []
    for a, b, first in pieces:
        taken += [(a, b)] if first else _second_choice(host, a - span, b - span)
    return taken


def _second_choice(host: HostMemory, lo: int, hi: int) -> Runs:
    """Take the free ones of some frames, and any for those that are not."""
    pieces = host.free.pieces(lo, hi)
    host.claim([(a, b) for a, b, free in pieces if free])
    taken: Runs = []
    for a, b, free in pieces:
        taken += [(a, b)] if free else take_lowest(host, b - a)
    return taken
