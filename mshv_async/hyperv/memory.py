"""DEPOSIT and WITHDRAW: a parent gives pages to a partition's pool and takes them back."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from mshv_async.hyperv.codes import DEPOSIT_BATCH, WITHDRAW_BATCH, HvStatus
from mshv_async.hyperv.pool import PageRun
from mshv_async.hyperv.request import HvResult
from mshv_async.hyperv.vpcalls import refusal
from mshv_async.sim import note, point, probe

if TYPE_CHECKING:
    from mshv_async.hyperv.hypervisor import Hypervisor
    from mshv_async.hyperv.lp import LogicalProcessor
    from mshv_async.hyperv.partition import HvPartition
    from mshv_async.hyperv.request import HvRequest


async def deposit(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Add the listed frames to the pool; nobody can reach them until they are withdrawn.

    OPERATION_DENIED at a frame that is in a pool already or that a partition can access. Of a
    call that fails, the frames before stay in the pool or, by ``failed_deposit``, go back; the
    answer's ``done`` counts those that stay.
    """
    accepted: list[PageRun] = []
    at = request.start
    listed = sum(run.length for run in request.pfns)
    status = HvStatus.SUCCESS
    for end in _groups(hv, request):
        await point("hypercall.deposit.rep", partition.pool)
        refused = _refusal(lp, partition, request, at, DEPOSIT_BATCH)
        if refused is None and listed < request.reps:
            refused = HvStatus.INVALID_HYPERCALL_INPUT
        if refused is None:
            taken, status = _accept(hv, partition, request, at, end)
            at += sum(run.length for run in taken)
            accepted += taken
        else:
            status = refused
        if refused is not None or status is not HvStatus.SUCCESS:
            break
        note("hypercall.rep", code="DEPOSIT", partition=partition.id, reps=at)
    if status is not HvStatus.SUCCESS and hv.failed_deposit == "returned":
        at -= _return(hv, partition, accepted)
    return HvResult(status, at)


def _accept(
    hv: Hypervisor, partition: HvPartition, request: HvRequest, first: int, end: int
) -> tuple[list[PageRun], HvStatus]:
    """Take elements of the list into the pool; return which, and why no more."""
    taken: list[PageRun] = []
    status = HvStatus.SUCCESS
    reachable = hv.accessible_frames()
    for _, count, pfn in request.sources(first, end):
        usable = partition.undeposited(pfn, pfn + count)
        at = bisect_right(reachable, (pfn, pfn))
        if at and reachable[at - 1][1] > pfn:
            usable = 0
        elif at < len(reachable):
            usable = min(usable, reachable[at][0] - pfn)
        if usable:
            partition.pool.add_frames(pfn, pfn + usable)
            taken.append(PageRun(usable, pfn))
        if usable < count:
            status = HvStatus.OPERATION_DENIED
            break
    if taken:
        probe("pool.deposit", partition, tuple(taken))
    return taken, status


def _return(hv: Hypervisor, partition: HvPartition, accepted: list[PageRun]) -> int:
    """Undo a deposit as far as its pages are still free, the last ones first; return how far."""
    left = min(partition.pool.free, sum(run.length for run in accepted))
    back: list[PageRun] = []
    for length, pfn in reversed(accepted):
        take = min(left, length)
        if take:
            back.append(PageRun(take, pfn + length - take))
            left -= take
    runs = tuple(back)
    partition.pool.remove_frames(runs)
    _hand_over(hv, partition, runs)
    return sum(run.length for run in runs)


def _hand_over(hv: Hypervisor, partition: HvPartition, runs: tuple[PageRun, ...]) -> None:
    """Give frames back to the root: their content is gone."""
    if not runs:
        return
    if hv.root_memory is not None:
        for run in runs:
            hv.root_memory.zero(run.pfn, run.pfn + run.length)
    probe("pool.withdraw", partition, runs)


async def withdraw(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Take up to ``reps`` free pages out of the pool; NO_RESOURCES when fewer are left.

    ``pages`` of the answer are the host frames among the ``done`` pages: all, but for pages that
    set-up put in without a frame. Their content is cleared.
    """
    at = request.start
    pages: tuple[PageRun, ...] = ()
    for end in _groups(hv, request):
        await point("hypercall.withdraw.rep", partition.pool)
        status = _refusal(lp, partition, request, at, WITHDRAW_BATCH)
        if status is not None:
            return HvResult(status, at, pages)
        count, runs = partition.pool.remove(end - at)
        _hand_over(hv, partition, runs)
        pages += runs
        at += count
        note("hypercall.rep", code="WITHDRAW", partition=partition.id, reps=at)
        if at < end:
            return HvResult(HvStatus.NO_RESOURCES, at, pages)
    return HvResult(HvStatus.SUCCESS, at, pages)


def _groups(hv: Hypervisor, request: HvRequest) -> list[int]:
    """Return where groups of elements end; an element that an injection names stands alone."""
    cuts = {request.reps}
    for rep in hv.named_reps:
        cuts.update(c for c in (rep, rep + 1) if request.start < c < request.reps)
    return sorted(cuts)


def _refusal(
    lp: LogicalProcessor, partition: HvPartition, request: HvRequest, rep: int, batch: int
) -> HvStatus | None:
    status = refusal(lp, partition, request, rep)
    if status is None and not 0 <= request.start < request.reps <= batch:
        return HvStatus.INVALID_HYPERCALL_INPUT
    return status
