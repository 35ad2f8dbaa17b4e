"""MAP_GPA_PAGES and UNMAP_GPA_PAGES (spec.md 5.4, 5.6); device memory is mapped NOT_CACHED."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.hyperv.codes import (
    LARGE_PAGES,
    MAP_FLAGS_MASK,
    MAP_GPA_BATCH,
    MAP_NO_ACCESS,
    MAP_PERMISSIONS_MASK,
    MAP_READABLE,
    UNMAP_GPA_BATCH,
    UNMAP_LARGE_PAGE,
    HvStatus,
)
from mshv_async.hyperv.reps import over_gfns
from mshv_async.hyperv.request import HvResult
from mshv_async.hyperv.slat import entry_of
from mshv_async.sim import probe, step

if TYPE_CHECKING:
    from mshv_async.hyperv.hypervisor import Hypervisor
    from mshv_async.hyperv.lp import LogicalProcessor
    from mshv_async.hyperv.partition import HvPartition
    from mshv_async.hyperv.request import HvRequest

GPA_PAGES = 1 << 40
"""Pages of the guest's physical address space: 52 address bits."""


async def map_gpa(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Map ``reps`` pages from ``gfn``; each supersedes what was mapped there.

    Statuses: INVALID_HYPERCALL_INPUT (list), INVALID_PARAMETER (flags, range, alignment of a
    large page), OPERATION_DENIED (source deposited, or by :class:`SlatRules`), INSUFFICIENT_MEMORY
    (no page for a table; _ROOT_ where the root pays, _CONTIGUOUS_ where pages have to be so).
    """
    refused = _bad_list(request, MAP_GPA_BATCH) or _bad_map(request)
    if refused is not None:
        await step("hypercall.map_gpa.refused", partition)
        return HvResult(refused, request.start)
    return await over_gfns(lp, partition, request, hv.named_reps, _map)


async def unmap_gpa(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Unmap ``reps`` pages from ``gfn``; a page that is not mapped is unmapped in silence."""
    refused = _bad_list(request, UNMAP_GPA_BATCH)
    if refused is None and (request.flags & ~UNMAP_LARGE_PAGE or _beyond(request)):
        refused = HvStatus.INVALID_PARAMETER
    if refused is not None:
        await step("hypercall.unmap_gpa.refused", partition)
        return HvResult(refused, request.start)
    return await over_gfns(lp, partition, request, hv.named_reps, _unmap)


def _bad_list(request: HvRequest, batch: int) -> HvStatus | None:
    if 0 <= request.start < request.reps <= batch:
        return None
    return HvStatus.INVALID_HYPERCALL_INPUT


def _bad_map(request: HvRequest) -> HvStatus | None:
    flags = request.flags
    rights = flags & MAP_PERMISSIONS_MASK
    if flags & ~MAP_FLAGS_MASK or (rights and not rights & MAP_READABLE) or _beyond(request):
        return HvStatus.INVALID_PARAMETER
    listed = sum(run.length for run in request.pfns)
    if not flags & MAP_NO_ACCESS and listed < request.reps:
        return HvStatus.INVALID_HYPERCALL_INPUT
    return None


def _beyond(request: HvRequest) -> bool:
    return request.gfn < 0 or request.gfn + request.reps * request.pages_per_rep > GPA_PAGES


def _map(partition: HvPartition, request: HvRequest, first: int, end: int) -> tuple[int, HvStatus]:
    if request.flags & MAP_NO_ACCESS:
        return _map_run(partition, request, first, end - first, 0)
    done = 0
    for element, count, pfn in request.sources(first, end):
        mapped, status = _map_run(partition, request, element, count, pfn)
        done += mapped
        if status is not HvStatus.SUCCESS:
            return done, status
    return done, HvStatus.SUCCESS


def _map_run(
    partition: HvPartition, request: HvRequest, element: int, count: int, pfn: int
) -> tuple[int, HvStatus]:
    """Map ``count`` elements from one consecutive run of sources."""
    stride, space = request.pages_per_rep, partition.space
    large = stride == LARGE_PAGES
    lo = request.gfn + element * stride
    if large and (lo % LARGE_PAGES or pfn % LARGE_PAGES):
        return 0, HvStatus[space.rules.misaligned_large]
    usable = count
    if not request.flags & MAP_NO_ACCESS:
        usable = partition.undeposited(pfn, pfn + count * stride) // stride
    hi = lo + usable * stride
    entry = entry_of(request.flags, pfn, large=large)
    done, status = space.map_large(lo, hi, entry) if large else space.map(lo, hi, entry)
    if done:
        probe("slat.change", partition, lo, lo + done)
    if status is HvStatus.SUCCESS and usable < count:
        status = HvStatus.OPERATION_DENIED
    return done // stride, status


def _unmap(
    partition: HvPartition, request: HvRequest, first: int, end: int
) -> tuple[int, HvStatus]:
    stride, space = request.pages_per_rep, partition.space
    lo, hi = request.gfn + first * stride, request.gfn + end * stride
    if stride == LARGE_PAGES:
        if lo % LARGE_PAGES:
            return 0, HvStatus[space.rules.misaligned_large]
        done, status = space.unmap_large(lo, hi)
    else:
        done, status = space.unmap(lo, hi)
    if done:
        probe("slat.change", partition, lo, lo + done)
    return done // stride, status
