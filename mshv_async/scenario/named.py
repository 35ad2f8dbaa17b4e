"""The pages that a scenario names: modelled one by one where others are grouped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.scenario.quantities import PAGE_SIZE
from mshv_async.scenario.threads import operations

if TYPE_CHECKING:
    from mshv_async.scenario.addresses import Addresses
    from mshv_async.scenario.loading import Scenario
    from mshv_async.scenario.operations import Operation

_PAGE_SHIFT = 12


def named_gfns(scenario: Scenario) -> tuple[int, ...]:
    """Return, ascending, every guest page that a program names (not workloads).

    A range names its first and last page, so that every range is a union of named pages and of
    groups between them. A raw address names the guest pages behind it. An injection names no
    page: its ``rep`` counts from wherever a call begins.
    """
    ranges = [
        piece
        for _, op in operations(scenario.threads)
        for piece in guest_ranges(op, scenario.addresses)
    ]
    return tuple(sorted({g for gfn, pages in ranges for g in (gfn, gfn + pages - 1)}))


def named_vpns(scenario: Scenario) -> tuple[int, ...]:
    """Return, ascending, the virtual page numbers of all named guest pages and raw addresses."""
    vpns = {
        address >> _PAGE_SHIFT
        for gfn in named_gfns(scenario)
        for address in scenario.addresses.candidates(gfn)
    }
    for _, op in operations(scenario.threads):
        if op.address is not None:
            first = op.address >> _PAGE_SHIFT
            vpns |= {first, first + op.pages - 1}
    return tuple(sorted(vpns))


def guest_ranges(op: Operation, addresses: Addresses) -> list[tuple[int, int]]:
    """Return the guest pages that an operation names, as (first gfn, pages)."""
    if op.gfn is not None:
        return [(op.gfn, op.pages)]
    if op.address is None:
        return []
    pieces = []
    end = op.address + op.pages * PAGE_SIZE
    for placed in addresses.placed:
        low, high = max(op.address, placed.uaddr), min(end, placed.end)
        if low < high:
            gfn = placed.gfn + (low - placed.uaddr) // PAGE_SIZE
            pieces.append((gfn, (high - low) // PAGE_SIZE))
    return pieces
