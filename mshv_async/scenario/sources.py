"""What each virtual processor executes: its program lines or its workload, for the guest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from mshv_async.guest import (
    Counted,
    Group,
    GuestAccess,
    OperationSource,
    Program,
    Replay,
    Sequential,
    Sleep,
    Uniform,
    Yield,
    Zipf,
    parse_trace,
)
from mshv_async.hyperv import Access
from mshv_async.scenario.errors import ScenarioError
from mshv_async.scenario.quantities import GFN_ALLOWED, GFN_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mshv_async.guest.program import Operation as GuestOperation
    from mshv_async.scenario.model import Region, Workload
    from mshv_async.scenario.operations import Operation
    from mshv_async.scenario.programs import Line

ACCESSES_DEFAULT: Final = 1_000
WRITES_PERCENT_DEFAULT: Final = 50
SKEW_DEFAULT: Final = 1.0

_ACCESS: Final = {"read": Access.READ, "write": Access.WRITE, "exec": Access.EXECUTE}


def guest_program(lines: Sequence[Line]) -> Program:
    """Return the program of a VP."""
    return Program(tuple(Group(tuple(map(_operation, ln.operations)), ln.times) for ln in lines))


def _operation(op: Operation) -> GuestOperation:
    if op.kind == "sleep":
        return Sleep(op.ns)
    if op.kind == "yield":
        return Yield()
    assert op.gfn is not None
    return GuestAccess(_ACCESS[op.kind], op.gfn, op.tag or "")


def guest_workload(
    file: str,
    key: str,
    workload: Workload,
    *,
    seed: int,
    regions: Sequence[Region],
    traces: Mapping[str, str],
) -> OperationSource:
    """Return the workload of the VP.

    ``seed``: of its random choices; ``traces``: texts by the path given. ``ScenarioError`` names
    ``key`` where base or pages cannot be told, or the trace is broken.
    """
    region = regions[0] if regions else None
    base = workload.base if workload.base is not None else region.gfn if region else None
    if base is None:
        raise ScenarioError(file, f"{key}.base", "nothing", "a gfn, as there is no region")
    if workload.kind == "trace":
        return _replay(file, key, workload, base, traces)
    inside = [r.gfn + r.pages - base for r in regions if r.gfn <= base < r.gfn + r.pages]
    pages = workload.pages or (inside[0] if inside else None)
    if pages is None:
        raise ScenarioError(file, f"{key}.pages", "nothing", "pages, as base is in no region")
    _check_range(file, f"{key}.pages", base, pages)
    return _counted(workload, base, pages, seed)


def _counted(workload: Workload, base: int, pages: int, seed: int) -> OperationSource:
    kinds: dict[str, Callable[..., Counted]] = {"sequential": Sequential, "uniform": Uniform}
    kind = kinds.get(workload.kind) or _zipf(workload)
    share = workload.writes_percent
    return kind(
        base=base,
        pages=pages,
        accesses=workload.accesses or ACCESSES_DEFAULT,
        writes_percent=WRITES_PERCENT_DEFAULT if share is None else share,
        forever=workload.forever,
        seed=seed,
    )


def _zipf(workload: Workload) -> Callable[..., Counted]:
    return partial(Zipf, skew=SKEW_DEFAULT if workload.skew is None else float(workload.skew))


def _replay(
    file: str, key: str, workload: Workload, base: int, traces: Mapping[str, str]
) -> Replay:
    assert workload.file is not None
    try:
        trace = parse_trace(traces[workload.file], workload.file)
    except ValueError as error:
        raise ScenarioError(file, f"{key}.file", str(error), "a page trace") from None
    _check_range(file, f"{key}.base", base, trace.pages)
    return Replay(trace, base, forever=workload.forever)


def _check_range(file: str, key: str, base: int, pages: int) -> None:
    if base + pages > GFN_LIMIT:
        raise ScenarioError(file, key, f"last page {base + pages - 1:#x}", GFN_ALLOWED)
