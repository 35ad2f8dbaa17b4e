"""Rep calls: a series of atomic actions in list order (spec.md 5.1).

Elements are grouped into one step where nobody can tell: a group ends at a GFN that a program
names, at an element that an injection names, and at a GFN of another call in flight.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from mshv_async.hyperv.codes import CALL_LABELS, HvStatus
from mshv_async.hyperv.partition import accepts
from mshv_async.hyperv.request import HvResult
from mshv_async.sim import injected, note, point

if TYPE_CHECKING:
    from mshv_async.hyperv.lp import LogicalProcessor
    from mshv_async.hyperv.partition import HvPartition
    from mshv_async.hyperv.request import HvRequest

Apply: TypeAlias = "Callable[[HvPartition, HvRequest, int, int], tuple[int, HvStatus]]"


def named_cuts(partition: HvPartition, request: HvRequest, reps: tuple[int, ...]) -> list[int]:
    """Return the element indices, in order, at which a group of elements must end.

    ``reps``: elements that injections name; each stands alone, as does each named GFN.
    """
    if request.reps - request.start == 1:
        return [request.reps]
    stride, base, start = request.pages_per_rep, request.gfn, request.start
    cuts = {request.reps}
    for lo, hi in partition.grain.pieces(base + start * stride, base + request.reps * stride):
        cuts.add((lo - base) // stride)
        cuts.add(-((base - hi) // stride))
    for rep in reps:
        cuts.add(min(rep, request.reps))
        cuts.add(min(rep + 1, request.reps))
    return sorted(cuts)


def group_end(partition: HvPartition, request: HvRequest, cuts: list[int], first: int) -> int:
    """Return the end of the group that begins at element ``first``, as things are now."""
    end = cuts[bisect_right(cuts, first)]
    if end - first == 1:
        return end
    stride = request.pages_per_rep
    lo = request.gfn + first * stride
    for busy, _, calls in partition.in_flight.runs(lo, request.gfn + end * stride):
        if calls > 1:
            return max(first + 1, first + (busy - lo) // stride)
    return end


def announce(partition: HvPartition, lo: int, hi: int, calls: int) -> None:
    """Count a call over GFNs ``[lo, hi)`` in (1) or out (-1) of those in flight."""
    partition.in_flight.add(lo, hi, calls)


async def over_gfns(
    lp: LogicalProcessor,
    partition: HvPartition,
    request: HvRequest,
    named_reps: tuple[int, ...],
    apply: Apply,
) -> HvResult:
    """Run a rep call over consecutive GFNs of a partition.

    ``apply(partition, request, first, end)`` does elements and returns how many, and why it
    stopped short. The answer's ``done`` counts from the start of the list.
    """
    site = CALL_LABELS[request.code]
    label = f"{site}.rep"
    stride = request.pages_per_rep
    span = (request.gfn + request.start * stride, request.gfn + request.reps * stride)
    cuts = named_cuts(partition, request, named_reps)
    # Elements that stand alone in every call need no notice: nobody groups over them.
    announced = stride > 1 or any(hi - lo > 1 for lo, hi in partition.grain.pieces(*span))
    if announced:
        announce(partition, *span, 1)
    at, status = request.start, HvStatus.SUCCESS
    while at < request.reps and status is HvStatus.SUCCESS:
        end = group_end(partition, request, cuts, at)
        lo = request.gfn + at * stride
        await point(label, partition.slat, lo, request.gfn + end * stride)
        failure = injected(site, caller=lp.caller, rep=at)
        early = failure is not None and failure.status == "SUCCESS"
        if failure is not None and not early:
            status = HvStatus[str(failure.status)]
            break
        if early and at > request.start:
            break
        end = at + 1 if early else group_end(partition, request, cuts, at)
        done, status = _apply_while_active(partition, request, at, end, apply)
        if lp.caller.rt.notes is not None:
            note("hypercall.rep", code=request.code.name, gfn=lo, reps=done, status=status.name)
        at += done
        if early:
            break
    if announced:
        announce(partition, *span, -1)
    return HvResult(status, at)


def _apply_while_active(
    partition: HvPartition, request: HvRequest, first: int, end: int, apply: Apply
) -> tuple[int, HvStatus]:
    if not accepts(partition.state, request.code):
        return 0, HvStatus.INVALID_PARTITION_STATE
    return apply(partition, request, first, end)
