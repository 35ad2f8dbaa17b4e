"""The threads of a scenario: their names, programs and the memory that they name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from mshv_async.guest import OperationSource
from mshv_async.scenario.addresses import Addresses
from mshv_async.scenario.errors import Misfit, ScenarioError, quoted
from mshv_async.scenario.model import VPS_MAX, BackingRun
from mshv_async.scenario.programs import Program, parse_program
from mshv_async.scenario.quantities import GFN_ALLOWED, GFN_LIMIT
from mshv_async.scenario.sources import guest_program, guest_workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mshv_async.scenario.model import Situation
    from mshv_async.scenario.operations import Operation

_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")
_RESERVED: Final = re.compile(r"(vp|guest|lp)-?[0-9]*(-.*)?")
_HOST_PLACES: Final = frozenset({"touch", "store", "madvise", "munmap", "mprotect", "reclaim"})


class ThreadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One thread to start; ``kind`` is ``vp`` or the kind of its ``[[thread]]``.

    ``program`` is what the file lists (empty beside a workload); ``source`` what the guest of a
    VP executes, from either. ``key`` is the dotted key in the file.
    """

    name: str
    kind: str
    key: str
    program: Program = Program()
    source: OperationSource | None = None

    @property
    def forever(self) -> bool:
        """Whether it never ends by itself, and so owes no progress."""
        return self.source.forever if self.source is not None else self.program.forever


def plan_threads(
    file: str, situation: Situation, traces: Mapping[str, str]
) -> tuple[ThreadPlan, ...]:
    """Return every thread, VPs first, in file order; ``traces``: texts by the path given.

    Raises ``ScenarioError`` for a line that is no operation, a bad name or a broken trace.
    """
    plans = [*_vps(file, situation, traces), *_others(file, situation)]
    seen: set[str] = set()
    for plan in plans:
        if plan.name in seen:
            allowed = "a name that no other thread has"
            raise ScenarioError(file, f"{plan.key}.name", quoted(plan.name), allowed)
        seen.add(plan.name)
    return tuple(plans)


def _vps(file: str, situation: Situation, traces: Mapping[str, str]) -> Iterator[ThreadPlan]:
    index = 0
    for number, group in enumerate(situation.vp):
        key = f"vp[{number}]"
        program = Program()
        if group.program is not None:
            program = parse_program(file, f"{key}.program", group.program, "vp")
        for member in range(group.count):
            if index == VPS_MAX:
                raise ScenarioError(file, f"{key}.count", "more VPs", f"{VPS_MAX} in all")
            source: OperationSource = guest_program(program.lines)
            if group.workload is not None:
                first = group.workload.seed
                seed = index + 1 if first is None else first + member
                source = guest_workload(
                    file,
                    f"{key}.workload",
                    group.workload,
                    seed=seed,
                    regions=situation.region,
                    traces=traces,
                )
            yield ThreadPlan(name=f"vp{index}", kind="vp", key=key, program=program, source=source)
            index += 1


def _others(file: str, situation: Situation) -> Iterator[ThreadPlan]:
    of_kind: dict[str, int] = {}
    for number, spec in enumerate(situation.thread):
        key = f"thread[{number}]"
        earlier = of_kind.get(spec.kind, 0)
        of_kind[spec.kind] = earlier + 1
        name = spec.name or (f"{spec.kind}{earlier}" if earlier else spec.kind)
        if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
            allowed = "small letters, digits and -, not the name of a VP or processor"
            raise ScenarioError(file, f"{key}.name", quoted(name), allowed)
        program = parse_program(file, f"{key}.program", spec.program, spec.kind)
        yield ThreadPlan(name=name, kind=spec.kind, key=key, program=program)


def operations(threads: Sequence[ThreadPlan]) -> Iterator[tuple[str, Operation]]:
    """Yield each operation of the programs once, with the dotted key of its line."""
    seen: set[str] = set()
    for thread in threads:
        if thread.key in seen:
            continue
        seen.add(thread.key)
        for number, line in enumerate(thread.program.lines):
            for op in line.operations:
                yield f"{thread.key}.program[{number}]", op


class _Range(NamedTuple):
    """Guest pages that need an address; ``key`` says who wants it."""

    key: str
    gfn: int
    backing: tuple[BackingRun, ...]
    uaddr: int | None

    @property
    def pages(self) -> int:
        return sum(run.pages for run in self.backing)


def place_memory(file: str, situation: Situation, threads: Sequence[ThreadPlan]) -> Addresses:
    """Return the address table; ``ScenarioError`` where a range cannot have its address."""
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
        table = _place(file, table, wanted)
    for wanted in [r for r in regions if r.uaddr is None]:
        table = _place(file, table, wanted)
    for wanted in [r for r in maps if r.uaddr is None]:
        if not _has_address(file, table, wanted):
            table = _place(file, table, wanted)
    return table


def _backing(op: Operation) -> BackingRun:
    return msgspec.convert({"backing": op.backing, "pages": op.pages}, BackingRun)


def _has_address(file: str, table: Addresses, wanted: _Range) -> bool:
    candidates = table.candidates(wanted.gfn, wanted.pages)
    if len(candidates) > 1:
        addresses = " and ".join(f"{address:#x}" for address in candidates)
        found = f"{wanted.gfn:#x}, which has several addresses ({addresses})"
        raise ScenarioError(file, wanted.key, found, "uaddr=… here")
    return bool(candidates)


def _place(file: str, table: Addresses, wanted: _Range) -> Addresses:
    try:
        return table.place(wanted.gfn, wanted.backing, wanted.key, wanted.uaddr)
    except Misfit as misfit:
        raise misfit.at(file, wanted.key) from None


def check_places(file: str, threads: Sequence[ThreadPlan], addresses: Addresses) -> None:
    """Raise ``ScenarioError`` for an operation whose guest pages have no usable address."""
    for key, op in operations(threads):
        if op.gfn is None:
            continue
        if op.gfn + op.pages > GFN_LIMIT:
            last = f"last page {op.gfn + op.pages - 1:#x}"
            raise ScenarioError(file, key, last, GFN_ALLOWED)
        if op.kind in _HOST_PLACES:
            try:
                addresses.address(op.gfn, op.pages)
            except Misfit as misfit:
                raise misfit.at(file, key) from None
        starts = sorted({placed.gfn for placed in addresses.placed})
        if op.kind == "unmap" and op.gfn not in starts:
            allowed = f"the first page of a region: {', '.join(map(hex, starts)) or 'none here'}"
            raise ScenarioError(file, key, f"{op.gfn:#x}", allowed)
