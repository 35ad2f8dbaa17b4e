"""CREATE, INITIALIZE, FINALIZE and DELETE of partitions (spec.md 5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.hyperv.codes import HvStatus, PartitionState
from mshv_async.hyperv.request import HvResult
from mshv_async.hyperv.vpcalls import refusal
from mshv_async.sim import point, probe

if TYPE_CHECKING:
    from mshv_async.hyperv.hypervisor import Hypervisor
    from mshv_async.hyperv.lp import LogicalProcessor
    from mshv_async.hyperv.partition import HvPartition
    from mshv_async.hyperv.request import HvRequest


async def create(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Create a child of ``partition``, uninitialised, with an empty pool.

    INSUFFICIENT_MEMORY: the pool of ``partition``, which asks for itself, is too small.
    """
    await point("hypercall.create_partition.rep", partition)
    status = refusal(lp, partition, request)
    if status is not None:
        return HvResult(status)
    if not partition.pool.draw(hv.costs.create_partition):
        return HvResult(HvStatus.INSUFFICIENT_MEMORY)
    child = hv.new_partition(parent=partition.id)
    return HvResult(HvStatus.SUCCESS, partition_id=child.id)


async def initialize(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Make a partition active; INSUFFICIENT_MEMORY when its pool is too small."""
    await point("hypercall.initialize.rep", partition)
    status = refusal(lp, partition, request)
    if status is not None:
        return HvResult(status)
    if not partition.pool.draw(hv.costs.initialize):
        return HvResult(HvStatus.INSUFFICIENT_MEMORY)
    partition.state = PartitionState.ACTIVE
    return HvResult(HvStatus.SUCCESS)


async def finalize(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Stop the partition's processors and drop its table; OPERATION_DENIED while it has children.

    All pool pages are free afterwards. A call that fails between the two (an injection of rep 1)
    leaves the partition finalizing, and another FINALIZE goes on from there; one that was
    overtaken by another finds INVALID_PARTITION_STATE.
    """
    await point("hypercall.finalize.rep", partition)
    status = refusal(lp, partition, request)
    if status is None and any(p.parent == partition.id for p in hv.partitions):
        status = HvStatus.OPERATION_DENIED
    if status is not None:
        return HvResult(status)
    partition.state = PartitionState.FINALIZING
    for vp in partition.vps.values():
        vp.halt_for_good()
    await point("hypercall.finalize.drop", partition.slat, 0, 1 << 40)
    status = refusal(lp, partition, request, rep=1)
    if status:
        return HvResult(status)
    for lo, hi in partition.space.clear():
        probe("slat.change", partition, lo, hi)
    partition.pool.give_back(partition.pool.used)
    partition.state = PartitionState.FINALIZED
    return HvResult(HvStatus.SUCCESS)


async def delete(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Delete a partition; OPERATION_DENIED unless its pool is empty.

    What its creation cost goes back to its parent's pool.
    """
    await point("hypercall.delete.rep", partition)
    status = refusal(lp, partition, request)
    if status is None and partition.pool.deposited:
        status = HvStatus.OPERATION_DENIED
    if status is not None:
        return HvResult(status)
    partition.state = PartitionState.DELETED
    parent = hv.partition(partition.parent)
    if parent is not None:
        parent.pool.give_back(hv.costs.create_partition)
    hv.forget(partition)
    return HvResult(HvStatus.SUCCESS)
