"""bounded-memory: what the driver allocates is bounded, and given back (spec.md 6.4)."""

from __future__ import annotations

from typing import Any, Final

from mshv_async.driver import MshvMemRegion
from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import Observed
from mshv_async.oracle.watching import watches
from mshv_async.sim import SharedDict, Thread, name_of

PER_PAGE_BYTES: Final = 8
"""A region's array has a pointer for each page."""

DESCRIPTOR_BYTES: Final = 1024
"""A region without its array; generous."""

LIST_BYTES: Final = 4096
"""The frame numbers of one fault, or the page list of one deposit."""

LISTS: Final = 2
"""Of one kind on one thread: its own, and one of a callback that its allocation caused."""


class BoundedMemory(Invariant):
    """Adds up what the driver tells of its allocations.

    A region has 8 bytes for each of its pages, a thread 4 KiB for the fault that it serves and as
    much for a deposit, and nothing when it is over. With the partition go its processors.
    """

    __slots__ = ("regions", "sites", "threads")
    _not_state = ("sites",)
    invariant = "bounded-memory"
    summary = "8 bytes for each page of a region, 4 KiB for each fault under way, nothing left over"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.regions: tuple[tuple[MshvMemRegion, int], ...] = ()  # bytes that each was given
        # By thread and site: bytes; none are not kept.
        self.threads: SharedDict[tuple[str, str], int] = SharedDict(
            "oracle.allocated", listed=False
        )
        self.sites: dict[str, None] = {}  # those that were ever told

    @watches("driver.alloc")
    def on_alloc(self, owner: Any, nbytes: int, site: str) -> None:
        """Add an allocation and compare with the bound of its owner."""
        if isinstance(owner, MshvMemRegion):
            had = sum(n for region, n in self.regions if region is owner)
            others = tuple(r for r in self.regions if r[0] is not owner)
            self.regions = (*others, (owner, had + nbytes))
            bound = PER_PAGE_BYTES * owner.nr_pages + DESCRIPTOR_BYTES
            self._compare(name_of(owner), site, had + nbytes, bound)
        elif isinstance(owner, Thread):
            self.sites[site] = None
            key = (owner.name, site)
            now = self.threads[key] = (self.threads.get(key) or 0) + nbytes
            self._compare(owner.name, site, now, LISTS * LIST_BYTES)

    def _compare(self, name: str, site: str, nbytes: int, bound: int) -> None:
        if nbytes > bound:
            self._violated(
                site,
                f"{name} has {nbytes} bytes for {site}",
                f"{bound} bytes are what it may take",
            )

    @watches("driver.free")
    def on_free(self, owner: Any, nbytes: int, site: str) -> None:
        """Take an allocation off; a region's goes with its object."""
        if not isinstance(owner, Thread):
            return
        key = (owner.name, site)
        left = (self.threads.pop(key) or 0) - nbytes
        if left > 0:
            self.threads[key] = left
        if left < 0:
            self._violated(
                site, f"{owner.name} frees {-left} bytes for {site} that it did not allocate"
            )

    @watches("object.free")
    def on_object(self, obj: Any) -> None:
        """Look for what the partition leaves when it goes."""
        if self.regions:
            kept = tuple(r for r in self.regions if r[0] is not obj)
            if len(kept) < len(self.regions):
                self.regions = kept
        if obj is self.world.partition and self.world.vps:
            self._violated(
                "processors",
                f"{name_of(obj)} is freed, and {name_of(self.world.vps[0])} was not",
                "nobody can free it any more",
            )

    @watches("world.end")
    def on_end(self) -> None:
        """Look for what threads left."""
        known = [(t.name, site) for t in self.world.rt.all_threads for site in self.sites]
        for name, site in known:
            nbytes = self.threads.get((name, site))
            if nbytes:
                self._violated(
                    site,
                    f"{name} leaves {nbytes} bytes for {site} behind",
                    "it is gone, and nobody knows of them any more",
                )

    def _violated(self, what: str, *story: str) -> None:
        self.world.violated(self.name, story, functions=(what,))
