"""Kicks: each is counted by the driver, one at a time, and none is lost."""

from __future__ import annotations

from oracle_playing import REGION, finding_of, silent, thread, vps
from sound_drivers import Sound

from mshv_async.driver import cond_resched, step
from mshv_async.hyperv import HvRegister, RegisterValue

BY_HYPERVISOR = '[hypervisor]\nscheduler = "hypervisor"\n'
RUN = (
    BY_HYPERVISOR
    + REGION
    + vps("write 0x200", "read 0x201", "read 0x200")
    + thread("host", "madvise dontneed 0x200 1", "madvise dontneed 0x201 1")
)


class Uncounted(Sound):
    """The handler wakes the thread and forgets the count that teardown goes by."""

    async def kick_vp(self, vp):
        await step("vp.kick", vp, write=True)
        vp.kicked_by_hv = True
        vp.vp_suspend_queue.wake_up()


class CountedTwice(Sound):
    """The handler counts one kick twice: teardown would wait for one that never was sent."""

    async def kick_vp(self, vp):
        await super().kick_vp(vp)
        vp.vp_signaled_count += 1


class Missed(Sound):
    """The handler looks the processor up one index too high, and finds none."""

    async def intercept_isr(self, message):
        await super().intercept_isr(message._replace(vp_index=message.vp_index + 1))


class DoesNotWait(Sound):
    """The thread looks at the suspend register itself and runs on before the kick came."""

    async def run_vp_with_hyp_scheduler(self, vp):
        ret = await self.hv_call_set_vp_registers(
            vp,
            RegisterValue(HvRegister.INTERCEPT_SUSPEND, 0),
            RegisterValue(HvRegister.EXPLICIT_SUSPEND, 0),
        )
        while not ret and not vp.vp_intercept_msg_page.intercept_suspend:
            await cond_resched()
        return ret


def test_a_kick_that_is_not_counted_is_lost_to_teardown():
    finding = finding_of(RUN, Uncounted, "invariant:kick")
    assert finding.title == "invariant:kick: intercept_isr"
    assert finding.story[0] == "kick 1 of vp0 is lost: the driver counts 0"


def test_a_kick_that_is_counted_twice_is_found():
    finding = finding_of(RUN, CountedTwice, "invariant:kick")
    assert finding.title == "invariant:kick: intercept_isr"
    assert finding.story[0] == "kick 1 of vp0 is doubled: the driver counts 2"


def test_a_kick_whose_processor_is_not_found_is_lost():
    finding = finding_of(RUN, Missed, "invariant:kick")
    assert finding.title == "invariant:kick: intercept_isr"


def test_a_processor_that_runs_before_its_kick_was_taken_has_two_under_way():
    finding = finding_of(RUN, DoesNotWait, "invariant:kick")
    assert finding.title == "invariant:kick: vp_ioctl_run_vp"
    assert finding.story[0] == "2 kicks are under way for vp0"


def test_kicks_that_are_counted_one_by_one_are_silent():
    silent(RUN, Sound)
