"""What goes into a hypercall and what comes out (spec.md 5.1)."""

from __future__ import annotations

from typing import NamedTuple

from mshv_async.hyperv.codes import (
    LARGE_PAGES,
    MAP_LARGE_PAGE,
    UNMAP_LARGE_PAGE,
    DispatchEvent,
    DispatchState,
    HvCall,
    HvRegister,
    HvStatus,
)
from mshv_async.hyperv.pool import PageRun


class RegisterValue(NamedTuple):
    """One element of SET_VP_REGISTERS, or of the answer of GET_VP_REGISTERS."""

    name: HvRegister
    value: int


class HvRequest(NamedTuple):
    """Input of one call. Fields that a call does not have stay at their defaults.

    ``reps`` is the length of the list and ``start`` the index to begin at. ``pfns`` is the page
    list as runs; with a LARGE flag its elements are 2 MiB pages, and so is a run's length.
    """

    code: HvCall
    partition_id: int
    reps: int = 0
    start: int = 0
    gfn: int = 0
    flags: int = 0
    pfns: tuple[PageRun, ...] = ()
    vp_index: int = 0
    registers: tuple[RegisterValue, ...] = ()

    @property
    def pages_per_rep(self) -> int:
        """Guest pages that one element stands for: 512 with the call's LARGE flag, else 1."""
        large = UNMAP_LARGE_PAGE if self.code is HvCall.UNMAP_GPA else MAP_LARGE_PAGE
        return LARGE_PAGES if self.flags & large else 1

    def sources(self, first: int, end: int) -> list[tuple[int, int, int]]:
        """Return (element, count, pfn) of the runs of ``pfns`` within elements [first, end)."""
        found: list[tuple[int, int, int]] = []
        at, stride = 0, self.pages_per_rep
        for length, pfn in self.pfns:
            lo, hi = max(at, first), min(at + length, end)
            if lo < hi:
                found.append((lo, hi - lo, pfn + (lo - at) * stride))
            at += length
            if at >= end:
                break
        return found


class HvResult(NamedTuple):
    """Output of one call.

    ``done``: reps completed, counted from the start of the list whatever ``start`` was.
    ``pages``: frames that WITHDRAW returned; ``partition_id``: what CREATE_PARTITION made;
    ``state`` and ``event``: how DISPATCH_VP left the virtual processor.
    """

    status: HvStatus
    done: int = 0
    pages: tuple[PageRun, ...] = ()
    partition_id: int = 0
    registers: tuple[RegisterValue, ...] = ()
    state: DispatchState = DispatchState.NONE
    event: DispatchEvent = DispatchEvent.NONE

    @property
    def ok(self) -> bool:
        """Say whether the status is SUCCESS."""
        return self.status is HvStatus.SUCCESS
