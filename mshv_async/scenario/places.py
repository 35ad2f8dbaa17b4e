"""Giving every operation of a scenario the memory that it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from mshv_async.scenario.addresses import Addresses
from mshv_async.scenario.errors import Misfit, ScenarioError
from mshv_async.scenario.model import BackingRun
from mshv_async.scenario.programs import Program
from mshv_async.scenario.quantities import GFN_ALLOWED, GFN_LIMIT
from mshv_async.scenario.threads import ThreadPlan, operations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mshv_async.scenario.model import Situation
    from mshv_async.scenario.operations import Operation

_HOST_PLACES: Final = frozenset(
    {"touch", "store", "madvise", "munmap", "mprotect", "reclaim", "collapse"}
)


class _Range(NamedTuple):
    """Guest pages that need an address; ``key`` says who wants it."""

    key: str
    gfn: int
    backing: tuple[BackingRun, ...]
    uaddr: int | None

    @property
    def pages(self) -> int:
        return sum(run.pages for run in self.backing)


def place(
    file: str, situation: Situation, threads: Sequence[ThreadPlan]
) -> tuple[tuple[ThreadPlan, ...], Addresses]:
    """Return the threads with the addresses of their operations, and the address table.

    Host operations get their ``address``, ``map`` operations their ``uaddr``. Raises
    ``ScenarioError`` where guest pages are beyond the guest, or have no or several addresses.
    """
    _check_ends(file, threads)
    regions = [
        _Range(f"region[{i}]", r.gfn, r.backing_runs, r.uaddr)
        for i, r in enumerate(situation.region)
    ]
    maps = [
        _Range(key, op.gfn or 0, (_backing(op),), op.uaddr)
        for key, op in operations(threads)
        if op.kind == "map"
    ]
    table = Addresses()
    # Those that say where they lie come first: the others keep out of their way.
    for wanted in [r for r in (*regions, *maps) if r.uaddr is not None]:
        table = _placed(file, table, wanted)
    for wanted in [r for r in regions if r.uaddr is None]:
        table = _placed(file, table, wanted)
    uaddrs: list[int] = []
    for wanted in maps:
        if wanted.uaddr is None and not _candidates(file, table, wanted):
            table = _placed(file, table, wanted)
        uaddrs.append(wanted.uaddr or _candidates(file, table, wanted)[0])
    _check_unmaps(file, threads, table)
    found = iter(uaddrs)
    return tuple(_resolved(file, thread, table, found) for thread in threads), table


def _backing(op: Operation) -> BackingRun:
    return msgspec.convert({"backing": op.backing, "pages": op.pages}, BackingRun)


def _candidates(file: str, table: Addresses, wanted: _Range) -> tuple[int, ...]:
    candidates = table.candidates(wanted.gfn, wanted.pages)
    if len(candidates) > 1:
        addresses = " and ".join(f"{address:#x}" for address in candidates)
        found = f"{wanted.gfn:#x}, which has several addresses ({addresses})"
        raise ScenarioError(file, wanted.key, found, "uaddr=… here")
    return candidates


def _placed(file: str, table: Addresses, wanted: _Range) -> Addresses:
    try:
        return table.place(wanted.gfn, wanted.backing, wanted.key, wanted.uaddr)
    except Misfit as misfit:
        raise misfit.at(file, wanted.key) from None


def _check_ends(file: str, threads: Sequence[ThreadPlan]) -> None:
    for key, op in operations(threads):
        if op.gfn is not None and op.gfn + op.pages > GFN_LIMIT:
            last = f"last page {op.gfn + op.pages - 1:#x}"
            raise ScenarioError(file, key, last, GFN_ALLOWED)


def _check_unmaps(file: str, threads: Sequence[ThreadPlan], table: Addresses) -> None:
    starts = sorted({placed.gfn for placed in table.placed})
    # A map that uses addresses that are there has no entry of its own.
    starts += [op.gfn or 0 for _, op in operations(threads) if op.kind == "map"]
    for key, op in operations(threads):
        if op.kind == "unmap" and op.gfn not in starts:
            allowed = f"the first page of a region: {', '.join(map(hex, starts)) or 'none here'}"
            raise ScenarioError(file, key, f"{op.gfn:#x}", allowed)


def _resolved(file: str, thread: ThreadPlan, table: Addresses, uaddrs: Iterator[int]) -> ThreadPlan:
    if thread.kind == "vp":
        return thread
    lines = []
    for number, line in enumerate(thread.program.lines):
        key = f"{thread.key}.program[{number}]"
        resolved = [_with_address(file, key, op, table, uaddrs) for op in line.operations]
        lines.append(msgspec.structs.replace(line, operations=tuple(resolved)))
    return msgspec.structs.replace(thread, program=Program(tuple(lines)))


def _with_address(
    file: str, key: str, op: Operation, table: Addresses, uaddrs: Iterator[int]
) -> Operation:
    if op.kind == "map":
        return msgspec.structs.replace(op, uaddr=next(uaddrs))
    if op.kind not in _HOST_PLACES or op.gfn is None:
        return op
    try:
        return msgspec.structs.replace(op, address=table.address(op.gfn, op.pages))
    except Misfit as misfit:
        raise misfit.at(file, key) from None
