"""DEPOSIT and WITHDRAW: a parent gives pages to a partition's pool and takes them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.hyperv.codes import DEPOSIT_BATCH, WITHDRAW_BATCH, HvStatus
from mshv_async.hyperv.request import HvResult
from mshv_async.hyperv.vpcalls import refusal
from mshv_async.sim import note, point

if TYPE_CHECKING:
    from mshv_async.hyperv.hypervisor import Hypervisor
    from mshv_async.hyperv.lp import LogicalProcessor
    from mshv_async.hyperv.partition import HvPartition
    from mshv_async.hyperv.pool import PageRun
    from mshv_async.hyperv.request import HvRequest


async def deposit(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Add the listed frames to the pool; OPERATION_DENIED at one that is in a pool already."""
    at = request.start
    listed = sum(run.length for run in request.pfns)
    for end in _groups(hv, request):
        await point("hypercall.deposit.rep", partition.pool)
        status = _refusal(lp, partition, request, at, DEPOSIT_BATCH)
        if status is None and listed < request.reps:
            status = HvStatus.INVALID_HYPERCALL_INPUT
        if status is not None:
            return HvResult(status, at)
        for element, count, pfn in request.sources(at, end):
            usable = partition.undeposited(pfn, pfn + count)
            partition.pool.add_frames(pfn, pfn + usable)
            at = element + usable
            if usable < count:
                return HvResult(HvStatus.OPERATION_DENIED, at)
        note("hypercall.rep", code="DEPOSIT", partition=partition.id, reps=at)
    return HvResult(HvStatus.SUCCESS, at)


async def withdraw(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Take up to ``reps`` free pages out of the pool; NO_RESOURCES when fewer are left.

    ``pages`` of the answer are the host frames among the ``done`` pages: all, but for pages that
    set-up put in without a frame.
    """
    at = request.start
    pages: tuple[PageRun, ...] = ()
    for end in _groups(hv, request):
        await point("hypercall.withdraw.rep", partition.pool)
        status = _refusal(lp, partition, request, at, WITHDRAW_BATCH)
        if status is not None:
            return HvResult(status, at, pages)
        count, runs = partition.pool.remove(end - at)
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
