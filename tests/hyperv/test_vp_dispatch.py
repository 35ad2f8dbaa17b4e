"""Dispatch, suspends, intercepts and kicks, under both schedulers."""

import pytest

from mshv_async.hyperv import (
    DISPATCH_CLEAR_INTERCEPT_SUSPEND,
    NO_ACCESS_ENTRY,
    Access,
    DispatchEvent,
    DispatchState,
    HvCall,
    HvMessageType,
    HvRegister,
    HvStatus,
    Hypervisor,
    InterceptMessage,
    RegisterValue,
    SchedulerType,
)
from mshv_async.sim import Injection, Op, WaitQueue, current, do
from mshv_async.sim.strategies import Dfs, RandomWalk

HALT = InterceptMessage(HvMessageType.HALT)


def world(scheduler=SchedulerType.ROOT):
    hv = Hypervisor(scheduler=scheduler)
    partition = hv.create_partition_direct(vps=1)
    partition.no_access_direct(0x200, 1)
    return hv, partition, partition.vps[0]


class Guest:
    """Executes instructions for ever; intercepts whenever ``every`` of them are done."""

    def __init__(self, vp, every=0):
        self.vp, self.every, self.done = vp, every, 0

    def start(self, rt):
        self.vp.guest = rt.spawn("guest0", self.run, daemon=True)

    async def run(self):
        self.vp.guest = current()
        while True:
            await do(Op("guest.instruction", self.vp, guard=self.vp.may_run))
            self.done += 1
            if self.every and self.done % self.every == 0:
                await self.vp.intercept(HALT)


def set_register(hv, partition, register, value):
    values = (RegisterValue(register, value),)
    return hv.call(HvCall.SET_VP_REGISTERS, partition.id, reps=1, registers=values)


async def get_register(hv, partition, register):
    values = (RegisterValue(register, 0),)
    result = await hv.call(HvCall.GET_VP_REGISTERS, partition.id, reps=1, registers=values)
    return result.registers[0].value


def dispatch(hv, partition, flags=DISPATCH_CLEAR_INTERCEPT_SUSPEND):
    return hv.call(HvCall.DISPATCH_VP, partition.id, flags=flags)


BLOCKED = (HvStatus.SUCCESS, DispatchState.BLOCKED, DispatchEvent.SUSPEND)
INTERCEPTED = (HvStatus.SUCCESS, DispatchState.READY, DispatchEvent.INTERCEPT)


def outcome(result):
    return (result.status, result.state, result.event)


def test_a_new_virtual_processor_is_explicitly_suspended(alone):
    hv, partition, _ = world()
    assert outcome(alone(lambda: dispatch(hv, partition))) == BLOCKED


@pytest.mark.parametrize("index", [1, 300])
def test_dispatching_a_processor_that_is_not_there_is_refused(alone, index):
    hv, partition, _ = world()
    result = alone(lambda: hv.call(HvCall.DISPATCH_VP, partition.id, vp_index=index))
    assert result.status is HvStatus.INVALID_VP_INDEX


def test_a_dispatched_guest_runs_until_its_intercept_and_then_answers(threads):
    hv, partition, vp = world()
    guest, seen = Guest(vp, every=3), []

    async def vp0():
        await set_register(hv, partition, HvRegister.EXPLICIT_SUSPEND, 0)
        seen.append(outcome(await dispatch(hv, partition)))
        seen.append(outcome(await dispatch(hv, partition, flags=0)))
        seen.append(outcome(await dispatch(hv, partition)))

    rt = threads({"vp0": vp0}, set_up=guest.start)
    assert rt.finding is None
    assert seen == [INTERCEPTED, BLOCKED, INTERCEPTED]
    assert vp.intercept_message == HALT._replace(sender=partition.id)
    assert guest.done == 6


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("register", [HvRegister.EXPLICIT_SUSPEND, HvRegister.DISPATCH_SUSPEND])
def test_a_suspend_by_another_thread_stops_a_running_guest(threads, register, seed):
    """Teardown and signals rely on it: else RUN_VP never returns."""
    hv, partition, vp = world()
    guest, seen, counts = Guest(vp), [], []

    async def vp0():
        await set_register(hv, partition, HvRegister.EXPLICIT_SUSPEND, 0)
        seen.append(outcome(await dispatch(hv, partition)))

    async def other():
        await do(Op("other.wait", guard=lambda _: vp.runnable))
        await do(Op("other.step"))
        await set_register(hv, partition, register, 1)
        counts.append(guest.done)
        await do(Op("other.look"))
        counts.append(guest.done)

    rt = threads({"vp0": vp0, "other": other}, set_up=guest.start, strategy=RandomWalk(seed))
    assert rt.finding is None
    assert seen == [BLOCKED]
    assert counts[0] == counts[1]


def test_only_one_dispatch_at_a_time_holds_a_virtual_processor(threads):
    hv, partition, vp = world()
    guest, seen = Guest(vp), []

    async def vp0():
        await set_register(hv, partition, HvRegister.EXPLICIT_SUSPEND, 0)
        await dispatch(hv, partition)

    async def other():
        await do(Op("other.wait", guard=lambda _: vp.runnable))
        seen.append((await dispatch(hv, partition)).status)
        await set_register(hv, partition, HvRegister.EXPLICIT_SUSPEND, 1)

    threads({"vp0": vp0, "other": other}, set_up=guest.start, strategy=RandomWalk(1))
    assert seen == [HvStatus.INVALID_VP_STATE]


def test_a_failed_dispatch_leaves_the_guest_where_it_is(alone):
    hv, partition, vp = world()
    failure = Injection("hypercall.dispatch_vp", status="TIMEOUT", force=True)
    assert alone(lambda: dispatch(hv, partition), failure).status is HvStatus.TIMEOUT
    assert not vp.runnable


def test_dispatch_is_not_for_partitions_that_the_hypervisor_schedules(alone):
    hv, partition, _ = world(SchedulerType.CORE_SMT)
    assert alone(lambda: dispatch(hv, partition)).status is HvStatus.OPERATION_DENIED


@pytest.mark.parametrize(
    ("gfn", "kind"),
    [(0x200, HvMessageType.GPA_INTERCEPT), (0x201, HvMessageType.UNMAPPED_GPA)],
)
def test_no_access_and_absent_pages_raise_different_intercepts(threads, gfn, kind):
    """Only GPA_INTERCEPT is served by the driver."""
    hv, partition, vp = world()

    async def guest():
        vp.guest = current()
        await do(Op("guest.write", partition.slat, gfn, gfn + 1, guard=vp.may_run))
        await vp.refuse(Access.WRITE, gfn, partition.slat.get(gfn))

    async def vp0():
        await set_register(hv, partition, HvRegister.EXPLICIT_SUSPEND, 0)
        assert outcome(await dispatch(hv, partition)) == INTERCEPTED

    assert threads({"vp0": vp0, "guest0": guest}).finding is None
    message = vp.intercept_message
    assert (message.type, message.access, message.gfn) == (kind, Access.WRITE, gfn)
    assert message.is_memory
    assert (partition.slat.get(gfn) == NO_ACCESS_ENTRY) == (gfn == 0x200)


class Kicks:
    """The driver's side of a kick: count it, set the flag, wake the sleeper."""

    def __init__(self, hv):
        self.queue = WaitQueue("suspend_queue")
        self.kicked = False
        self.signalled = 0
        hv.set_isr(self.isr)

    async def isr(self, message):
        assert message.type is HvMessageType.OPAQUE_INTERCEPT
        await do(Op("isr.kick", self.queue))
        self.signalled += 1
        self.kicked = True
        self.queue.wake_up()

    async def wait(self):
        await self.queue.wait_event(lambda: self.kicked)
        self.kicked = False


def run_by_hypervisor(threads, strategy, intercepts=2, **options):
    hv, partition, vp = world(SchedulerType.CLASSIC_LP)
    guest, kicks, seen = Guest(vp, every=2), Kicks(hv), []

    async def vp0():
        for _ in range(intercepts):
            await set_register(hv, partition, HvRegister.INTERCEPT_SUSPEND, 0)
            await set_register(hv, partition, HvRegister.EXPLICIT_SUSPEND, 0)
            await kicks.wait()
            seen.append(await get_register(hv, partition, HvRegister.INTERCEPT_SUSPEND))
            await set_register(hv, partition, HvRegister.EXPLICIT_SUSPEND, 1)
        count = await get_register(hv, partition, HvRegister.VP_ROOT_SIGNAL_COUNT)
        assert count == kicks.signalled == intercepts

    rt = threads({"vp0": vp0}, set_up=guest.start, strategy=strategy, **options)
    assert rt.finding is None, rt.finding
    assert seen == [1] * intercepts
    assert guest.done == 2 * intercepts


@pytest.mark.parametrize("seed", range(40))
def test_no_schedule_loses_a_kick(threads, seed):
    run_by_hypervisor(threads, RandomWalk(seed), intercepts=3)


def test_no_schedule_of_one_intercept_loses_its_kick(threads):
    """Every schedule with at most two preemptions, one after the other."""
    strategy = Dfs(preemptions=2)
    executions = 0
    while executions < 400 and strategy.begin(executions):
        run_by_hypervisor(threads, strategy, intercepts=1, begun=True)
        executions += 1
    assert executions > 10


def test_explicit_suspend_stops_a_guest_that_the_hypervisor_schedules(threads):
    hv, partition, vp = world(SchedulerType.CLASSIC_LP)
    guest = Guest(vp)
    counts = []

    async def vp0():
        await set_register(hv, partition, HvRegister.EXPLICIT_SUSPEND, 0)
        await do(Op("vp0.wait", guard=lambda _: guest.done > 3))
        await set_register(hv, partition, HvRegister.EXPLICIT_SUSPEND, 1)
        counts.append(guest.done)
        await do(Op("vp0.look"))
        counts.append(guest.done)

    assert threads({"vp0": vp0}, set_up=guest.start, strategy=RandomWalk(2)).finding is None
    assert counts[0] == counts[1] > 3


def test_an_intercept_that_nobody_listens_to_is_not_counted_as_a_signal(threads):
    hv, partition, vp = world(SchedulerType.CLASSIC_LP)

    async def vp0():
        await set_register(hv, partition, HvRegister.EXPLICIT_SUSPEND, 0)
        await do(Op("vp0.wait", guard=lambda _: vp.intercept_suspend))

    threads({"vp0": vp0}, set_up=Guest(vp, every=1).start)
    assert vp.signal_count == 0
