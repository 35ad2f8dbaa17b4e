"""RUN_VP: let a virtual processor run until the VMM has to act (spec.md 4.7)."""

from __future__ import annotations

from errno import EINTR
from typing import TYPE_CHECKING

from mshv_async.driver.memory import MemoryIoctl
from mshv_async.hyperv import (
    DISPATCH_CLEAR_INTERCEPT_SUSPEND,
    DispatchEvent,
    DispatchState,
    HvCall,
    HvMessageType,
    HvRegister,
    HvResult,
    HvStatus,
    RegisterValue,
    SchedulerType,
    status_to_errno,
)
from mshv_async.sim import INTERRUPTIBLE, current, irq_restore, irq_save, step, warn

if TYPE_CHECKING:
    from mshv_async.driver.structures import MshvVp
    from mshv_async.hyperv import InterceptMessage, SignalMessage


class RunVp(MemoryIoctl):
    """The run loop under both schedulers, and the interrupt that kicks a processor."""

    async def vp_ioctl_run_vp(self, vp: MshvVp) -> tuple[int, InterceptMessage | None]:
        """Run until an intercept is not handled here.

        Returns 0 and the message for the VMM, or an errno (-EINTR: a signal came) and None.
        Called with the VP mutex held.
        """
        while True:
            if self.scheduler is SchedulerType.ROOT:
                rc = await self.run_vp_with_root_scheduler(vp)
            else:
                rc = await self.run_vp_with_hyp_scheduler(vp)
            if rc or not await self.vp_handle_intercept(vp):
                break
        if rc:
            return rc, None
        return 0, vp.vp_intercept_msg_page.intercept_message

    async def vp_handle_intercept(self, vp: MshvVp) -> bool:
        """Try to serve the intercept in the kernel; only GPA_INTERCEPT, and only on x86_64."""
        if self.arch != "x86_64":
            return False
        if vp.vp_intercept_msg_page.intercept_message.type is HvMessageType.GPA_INTERCEPT:
            return await self.handle_gpa_intercept(vp)
        return False

    # -- the hypervisor schedules ----------------------------------------------------------

    async def run_vp_with_hyp_scheduler(self, vp: MshvVp) -> int:
        """Clear both suspends and sleep until the kick; a signal suspends the VP again."""
        ret = await self.hv_call_set_vp_registers(
            vp,
            RegisterValue(HvRegister.INTERCEPT_SUSPEND, 0),
            RegisterValue(HvRegister.EXPLICIT_SUSPEND, 0),
        )
        if ret:
            return ret
        ret = await vp.vp_suspend_queue.wait_event(vp.kicked, INTERRUPTIBLE)
        if ret:
            ret, message_in_flight = await self.suspend_vp(vp)
            if ret:
                return ret
            if not message_in_flight:
                return -EINTR
            # The message was sent before the suspend took effect, so the kick will come.
            await vp.vp_suspend_queue.wait_event(vp.kicked)
            ret = await self.vp_set_explicit_suspend(vp, 0)
            if ret:
                return ret
        await step("vp.reset_kick", vp, write=True)
        vp.kicked_by_hv = False
        return 0

    async def suspend_vp(self, vp: MshvVp) -> tuple[int, bool]:
        """Suspend explicitly; say whether an intercept came first (errno, message in flight)."""
        ret = await self.vp_set_explicit_suspend(vp, 1)
        if ret:
            return ret, False
        result = await self.hv_vp_call(
            vp, HvCall.GET_VP_REGISTERS, (RegisterValue(HvRegister.INTERCEPT_SUSPEND, 0),)
        )
        if result.status is not HvStatus.SUCCESS:
            return status_to_errno(result.status), False
        return 0, bool(result.registers[0].value)

    # -- the root schedules ----------------------------------------------------------------

    async def run_vp_with_root_scheduler(self, vp: MshvVp) -> int:
        """Dispatch until an intercept; leaving for another reason suspends the VP explicitly."""
        if not vp.intercept_suspend:
            ret = await self.vp_set_explicit_suspend(vp, 0)
            if ret:
                return ret
        while True:
            ret = await self.root_dispatch_once(vp)
            if ret and not vp.intercept_suspend:
                await self.vp_set_explicit_suspend(vp, 1)
            if ret or vp.intercept_suspend:
                return ret

    async def root_dispatch_once(self, vp: MshvVp) -> int:
        """One round: wait if blocked, handle signals, dispatch, look at how it ended."""
        if vp.root_sched_blocked:
            ret = await self.vp_wait_for_hv_kick(vp)
            if ret:
                return ret
        await step("vp.pre_dispatch", vp)
        if current().signal_pending:
            return -EINTR
        flags = DISPATCH_CLEAR_INTERCEPT_SUSPEND if vp.intercept_suspend else 0
        irq_save()
        result = await self.hv.call(
            HvCall.DISPATCH_VP, vp.vp_partition.pt_id, vp_index=vp.vp_index, flags=flags
        )
        irq_restore()
        if result.status is not HvStatus.SUCCESS:
            return status_to_errno(result.status)
        vp.intercept_suspend = False
        if result.state is DispatchState.BLOCKED:
            if result.event is DispatchEvent.SUSPEND:
                return await self.vp_unexpected_suspend(vp)
            vp.root_sched_blocked = True
        elif result.event is DispatchEvent.INTERCEPT:
            vp.intercept_suspend = True
        return 0

    async def vp_unexpected_suspend(self, vp: MshvVp) -> int:
        """Clear the suspend that a dispatch ran into, and wait for the kick."""
        if vp.vp_signaled_count:
            warn("run_vp_with_root_scheduler: unexpected explicit suspend")
        ret = await self.vp_set_explicit_suspend(vp, 0)
        if ret:
            return ret
        return await self.vp_wait_for_hv_kick(vp)

    async def vp_wait_for_hv_kick(self, vp: MshvVp) -> int:
        """Sleep until the hypervisor says that the VP can be dispatched; -EINTR on a signal."""
        ret = await vp.vp_suspend_queue.wait_event(vp.kicked, INTERRUPTIBLE)
        if ret:
            return -EINTR
        vp.root_sched_blocked = False
        vp.kicked_by_hv = False
        return 0

    # -- registers and the kick ------------------------------------------------------------

    async def vp_set_explicit_suspend(self, vp: MshvVp, value: int) -> int:
        """Set or clear the EXPLICIT_SUSPEND register."""
        return await self.hv_call_set_vp_registers(
            vp, RegisterValue(HvRegister.EXPLICIT_SUSPEND, value)
        )

    async def hv_call_set_vp_registers(self, vp: MshvVp, *registers: RegisterValue) -> int:
        """Write registers of the VP; 0 or an errno."""
        result = await self.hv_vp_call(vp, HvCall.SET_VP_REGISTERS, registers)
        return status_to_errno(result.status)

    async def hv_vp_call(
        self, vp: MshvVp, code: HvCall, registers: tuple[RegisterValue, ...]
    ) -> HvResult:
        """Issue a register call for the VP, one rep for each register."""
        irq_save()
        result = await self.hv.call(
            code,
            vp.vp_partition.pt_id,
            reps=len(registers),
            vp_index=vp.vp_index,
            registers=registers,
        )
        irq_restore()
        return result

    async def intercept_isr(self, message: SignalMessage) -> None:
        """Kick the VP that a signal names. Runs in the interrupt handler; it must not sleep."""
        root = self.mshv_root
        section = root.rcu.read_lock()
        await step("partition.find", root.pt_htable)
        partition = root.pt_htable.get(message.sender)
        vp = partition.pt_vp_array.get(message.vp_index) if partition is not None else None
        if vp is not None:
            await self.kick_vp(vp)
        root.rcu.read_unlock(section)

    async def kick_vp(self, vp: MshvVp) -> None:
        """Count the signal, set the flag, wake the sleeper."""
        await step("vp.kick", vp, write=True)
        vp.vp_signaled_count += 1
        vp.kicked_by_hv = True
        vp.vp_suspend_queue.wake_up()
