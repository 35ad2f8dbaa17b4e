"""The hypercall engine: one worker actor for each calling thread's logical processor.

A caller posts its request on its own channel and spins for the answer; a processor in a
hypercall does not sleep. The worker receives the request and runs it, each element of a rep call
one atomic step. DISPATCH_VP leaves the worker free: the guest processor answers its caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from mshv_async.hyperv import gpa, lifecycle, memory, vpcalls
from mshv_async.hyperv.codes import CALL_LABELS, HvCall, HvStatus
from mshv_async.hyperv.lp import LogicalProcessor
from mshv_async.hyperv.request import HvResult
from mshv_async.sim import SPIN, Op, current, do, note, point, probe

if TYPE_CHECKING:
    from mshv_async.hyperv.hypervisor import Hypervisor
    from mshv_async.hyperv.partition import HvPartition
    from mshv_async.hyperv.request import HvRequest
    from mshv_async.sim import Thread

Handler: TypeAlias = (
    "Callable[[Hypervisor, LogicalProcessor, HvPartition, HvRequest], Awaitable[HvResult | None]]"
)

HANDLERS: Final[dict[HvCall, Handler]] = {
    HvCall.CREATE_PARTITION: lifecycle.create,
    HvCall.INITIALIZE: lifecycle.initialize,
    HvCall.FINALIZE: lifecycle.finalize,
    HvCall.DELETE: lifecycle.delete,
    HvCall.DEPOSIT: memory.deposit,
    HvCall.WITHDRAW: memory.withdraw,
    HvCall.MAP_GPA: gpa.map_gpa,
    HvCall.UNMAP_GPA: gpa.unmap_gpa,
    HvCall.CREATE_VP: vpcalls.create_vp,
    HvCall.DELETE_VP: vpcalls.delete_vp,
    HvCall.DISPATCH_VP: vpcalls.dispatch_vp,
    HvCall.GET_VP_REGISTERS: vpcalls.get_vp_registers,
    HvCall.SET_VP_REGISTERS: vpcalls.set_vp_registers,
}


ON_ITSELF: Final = frozenset({HvCall.CREATE_PARTITION, HvCall.DEPOSIT, HvCall.WITHDRAW})
"""Calls that the root issues about itself; CREATE_PARTITION about nobody else."""


class HypercallEngine:
    """Takes hypercalls to a hypervisor; holds no state but references."""

    __slots__ = ("hv",)

    def __init__(self, hv: Hypervisor) -> None:
        self.hv = hv

    async def call(self, request: HvRequest) -> HvResult:
        """Issue a hypercall on the current thread's processor and return its result."""
        caller = current()
        lp = self._logical_processor(caller)
        if caller.rt.notes is not None:
            note(
                "hypercall.issue",
                code=request.code.name,
                partition=request.partition_id,
                gfn=request.gfn,
                reps=request.reps,
                start=request.start,
            )
        if request.code is HvCall.MAP_GPA or request.code is HvCall.UNMAP_GPA:
            self._tell_slat_op(request)
        lp.requests.post(request)
        label = CALL_LABELS[request.code]
        if request.code is HvCall.DISPATCH_VP:
            ended = lp.answered_or_interrupted
            await do(Op(label, lp, kind=SPIN, guard=ended, holders=lp.servers))
            if lp.result is None:
                await self._interrupt(lp)
        else:
            await do(Op(label, lp, kind=SPIN, guard=lp.answered, holders=lp.servers))
        result = lp.result
        assert result is not None
        lp.result = None
        if result.status is not HvStatus.SUCCESS:
            probe("hypercall.failed", request, result)
        if caller.rt.notes is not None:
            note(
                "hypercall.return",
                code=request.code.name,
                status=result.status.name,
                done=result.done,
            )
        return result

    async def _interrupt(self, lp: LogicalProcessor) -> None:
        """Let the host's interrupt end a dispatch, unless the guest ended it meanwhile."""
        vp = lp.vp
        await do(Op("vp.host_interrupt", vp, kind=SPIN))
        if lp.result is None:
            assert vp is not None
            vp.interrupt()

    def _logical_processor(self, caller: Thread) -> LogicalProcessor:
        """Return the caller's channel; its worker is started by its first call."""
        lp = self.hv.processors.get(caller.name)
        if lp is None:
            lp = LogicalProcessor(caller)
            self.hv.processors[caller.name] = lp
            lp.worker = caller.rt.spawn(
                lp.name,
                Worker(self.hv, lp).serve,
                daemon=True,
                for_thread=caller,
                first=lp.requests.receiving,
            )
        lp.server = lp.worker
        return lp

    def _tell_slat_op(self, request: HvRequest) -> None:
        """Tell the watchers which SLAT operation is asked for, one fact for each source run."""
        partition = self.hv.partition(request.partition_id)
        probe("hypercall.issued", partition, request)
        stride = request.pages_per_rep
        runs = request.sources(request.start, request.reps) or [
            (request.start, request.reps - request.start, 0)
        ]
        for element, count, pfn in runs:
            gfn = request.gfn + element * stride
            probe("slat.op", partition, request.code, gfn, count * stride, request.flags, pfn)


class Worker:
    """The actor that runs the hypercalls of one logical processor."""

    __slots__ = ("hv", "lp")

    def __init__(self, hv: Hypervisor, lp: LogicalProcessor) -> None:
        self.hv = hv
        self.lp = lp

    async def serve(self) -> None:
        """Take requests for ever, one at a time."""
        hv, lp = self.hv, self.lp
        while True:
            request = await lp.requests.receive()
            result = await self._run(hv, lp, request)
            if result is not None:
                lp.answer(result)
                if hv.slat_rules.tlb == "delayed":
                    await self._flush_late(hv, request)

    async def _flush_late(self, hv: Hypervisor, request: HvRequest) -> None:
        """Drop old translations only now that the caller has its answer: a mutant."""
        if request.code not in (HvCall.MAP_GPA, HvCall.UNMAP_GPA):
            return
        partition = hv.partition(request.partition_id)
        if partition is None:
            return
        lo, hi = request.gfn, request.gfn + request.reps * request.pages_per_rep
        await point("tlb.flush", partition.slat, lo, hi)
        for vp in partition.vps.values():
            vp.flush_tlb(lo, hi)

    async def _run(
        self, hv: Hypervisor, lp: LogicalProcessor, request: HvRequest
    ) -> HvResult | None:
        handler = HANDLERS.get(request.code)
        if handler is None:
            return HvResult(HvStatus.INVALID_HYPERCALL_CODE, request.start)
        partition = hv.partition(request.partition_id)
        if partition is None:
            return HvResult(HvStatus.INVALID_PARTITION_ID, request.start)
        if not self._may_call(partition, request.code):
            return HvResult(HvStatus.ACCESS_DENIED, request.start)
        return await handler(hv, lp, partition, request)

    def _may_call(self, partition: HvPartition, code: HvCall) -> bool:
        """Say whether the root may: it is the partition's parent, or asks for itself."""
        if partition is self.hv.root:
            return code in ON_ITSELF
        return partition.parent == self.hv.root.id and code is not HvCall.CREATE_PARTITION
