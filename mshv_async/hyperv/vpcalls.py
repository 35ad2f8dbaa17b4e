"""CREATE_VP, DELETE_VP, DISPATCH_VP, GET_VP_REGISTERS and SET_VP_REGISTERS (spec.md 4.7, 5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.hyperv.codes import (
    CALL_LABELS,
    GET_VP_REGISTERS_BATCH,
    SET_VP_REGISTERS_BATCH,
    HvCall,
    HvStatus,
)
from mshv_async.hyperv.partition import accepts
from mshv_async.hyperv.request import HvResult, RegisterValue
from mshv_async.sim import injected, note, point

if TYPE_CHECKING:
    from mshv_async.hyperv.hypervisor import Hypervisor
    from mshv_async.hyperv.lp import LogicalProcessor
    from mshv_async.hyperv.partition import HvPartition
    from mshv_async.hyperv.request import HvRequest

MAX_VPS = 256


async def create_vp(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Create a virtual processor, explicitly suspended; INSUFFICIENT_MEMORY: pool too small."""
    await point("hypercall.create_vp.rep", partition)
    status = refusal(lp, partition, request)
    if status is not None:
        return HvResult(status)
    index = request.vp_index
    if not 0 <= index < MAX_VPS or partition.vps.get(index) is not None:
        return HvResult(HvStatus.INVALID_VP_INDEX)
    if not partition.pool.draw(hv.costs.create_vp):
        return HvResult(HvStatus.INSUFFICIENT_MEMORY)
    partition.new_vp(index)
    return HvResult(HvStatus.SUCCESS)


async def delete_vp(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Delete a virtual processor; INVALID_VP_STATE while a dispatch holds it."""
    await point("hypercall.delete_vp.rep", partition)
    status = refusal(lp, partition, request)
    if status is not None:
        return HvResult(status)
    vp = partition.vps.get(request.vp_index)
    if vp is None:
        return HvResult(HvStatus.INVALID_VP_INDEX)
    if vp.dispatched is not None:
        return HvResult(HvStatus.INVALID_VP_STATE)
    vp.halt_for_good()
    partition.vps.pop(request.vp_index)
    partition.pool.give_back(hv.costs.create_vp)
    return HvResult(HvStatus.SUCCESS)


async def dispatch_vp(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult | None:
    """Let a virtual processor run until something happens; None: its guest answers the caller."""
    del hv
    vp = partition.vps.get(request.vp_index)
    await point("hypercall.dispatch_vp.rep", vp or partition)
    status = refusal(lp, partition, request)
    if status is None and vp is None:
        status = HvStatus.INVALID_VP_INDEX
    if status is not None:
        return HvResult(status)
    assert vp is not None
    return vp.dispatch(lp, request.flags)


async def set_vp_registers(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Write registers, one an element; suspend registers stop and start the processor."""
    del hv
    return await _each_register(lp, partition, request, SET_VP_REGISTERS_BATCH)


async def get_vp_registers(
    hv: Hypervisor, lp: LogicalProcessor, partition: HvPartition, request: HvRequest
) -> HvResult:
    """Read registers, one an element; the values of the request are ignored."""
    del hv
    return await _each_register(lp, partition, request, GET_VP_REGISTERS_BATCH)


async def _each_register(
    lp: LogicalProcessor, partition: HvPartition, request: HvRequest, batch: int
) -> HvResult:
    write = request.code is HvCall.SET_VP_REGISTERS
    label = f"{CALL_LABELS[request.code]}.rep"
    vp = partition.vps.get(request.vp_index)
    values: tuple[RegisterValue, ...] = ()
    at = request.start
    bad_list = not 0 <= at < request.reps <= min(batch, len(request.registers))
    while True:
        await point(label, vp or partition, write=write)
        status = refusal(lp, partition, request, at)
        if status is None and bad_list:
            status = HvStatus.INVALID_HYPERCALL_INPUT
        if status is None and vp is None:
            status = HvStatus.INVALID_VP_INDEX
        if status is not None:
            return HvResult(status, at, registers=values)
        assert vp is not None
        register = request.registers[at]
        if write:
            status = vp.set_register(register.name, register.value)
            if status is not HvStatus.SUCCESS:
                return HvResult(status, at)
        value = register.value if write else vp.get_register(register.name)
        if not write:
            values += (RegisterValue(register.name, value),)
        if lp.caller.rt.notes is not None:
            code, name = request.code.name, register.name.name
            note("hypercall.rep", code=code, vp=vp.index, register=name, value=value)
        at += 1
        if at == request.reps:
            return HvResult(HvStatus.SUCCESS, at, registers=values)


def refusal(
    lp: LogicalProcessor, partition: HvPartition, request: HvRequest, rep: int = 0
) -> HvStatus | None:
    """Return why a call is refused in this step: an injected failure, the partition's state.

    SUCCESS: a rep call is to come back early, before this element; a simple call cannot.
    """
    failure = injected(CALL_LABELS[request.code], caller=lp.caller, rep=rep)
    if failure is not None and not (failure.status == "SUCCESS" and rep == request.start):
        return HvStatus[str(failure.status)]
    if not accepts(partition.state, request.code):
        return HvStatus.INVALID_PARTITION_STATE
    return None
