"""A signal for the thread whose processor runs a guest ends the dispatch (spec.md 4.7).

Without it a guest that never exits would hold RUN_VP for ever, and kill would not work.
"""

import pytest

from mshv_async.hyperv import (
    DISPATCH_CLEAR_INTERCEPT_SUSPEND,
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
from mshv_async.sim import Op, current, do
from mshv_async.sim.strategies import Dfs, RandomWalk

INTERRUPTED = (HvStatus.SUCCESS, DispatchState.READY, DispatchEvent.NONE)
INTERCEPTED = (HvStatus.SUCCESS, DispatchState.READY, DispatchEvent.INTERCEPT)
HALT = InterceptMessage(HvMessageType.HALT)


class Machine:
    """One virtual processor; its thread dispatches it, another one sends a signal."""

    def __init__(self, halts_every=None, scheduler=SchedulerType.ROOT):
        self.hv = Hypervisor(scheduler=scheduler)
        self.partition = self.hv.create_partition_direct(vps=1)
        self.vp = self.partition.vps[0]
        self.halts_every = halts_every
        self.retired = 0
        self.seen = []
        self.vp_thread = None

    def set_up(self, rt):
        self.vp.guest = rt.spawn("guest0", self.guest, daemon=True)

    async def guest(self):
        while True:
            await do(Op("guest.instruction", self.vp, guard=self.vp.may_run))
            self.retired += 1
            if self.halts_every and self.retired % self.halts_every == 0:
                await self.vp.intercept(HALT)

    async def dispatch(self, times=1):
        self.vp_thread = current()
        clear = (RegisterValue(HvRegister.EXPLICIT_SUSPEND, 0),)
        await self.hv.call(HvCall.SET_VP_REGISTERS, self.partition.id, reps=1, registers=clear)
        for _ in range(times):
            flags = DISPATCH_CLEAR_INTERCEPT_SUSPEND
            result = await self.hv.call(HvCall.DISPATCH_VP, self.partition.id, flags=flags)
            self.seen.append((result.status, result.state, result.event))

    async def interrupt(self, *, fatal=False):
        await do(Op("signal.send", guard=lambda _: self.vp_thread is not None))
        if fatal:
            self.vp_thread.signal_fatal()
        else:
            self.vp_thread.signal()

    def play(self, threads, strategy, *, fatal=False, times=1, begun=False):
        bodies = {
            "vp0": lambda: self.dispatch(times),
            "other": lambda: self.interrupt(fatal=fatal),
        }
        rt = threads(bodies, set_up=self.set_up, strategy=strategy, begun=begun)
        assert rt.finding is None, rt.finding
        return rt


@pytest.mark.parametrize("fatal", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_a_signal_ends_the_dispatch_of_an_endless_guest(threads, seed, fatal):
    machine = Machine()
    machine.play(threads, RandomWalk(seed), fatal=fatal)
    assert machine.seen == [INTERRUPTED]
    assert not machine.vp.runnable
    assert machine.vp.dispatched is None
    assert not machine.vp.intercept_suspend


@pytest.mark.parametrize("seed", range(5))
def test_while_a_signal_is_pending_every_dispatch_comes_back_at_once(threads, seed):
    """It is the caller who has to look at its signals: else it would spin here."""
    machine = Machine()
    machine.play(threads, RandomWalk(seed), times=3)
    assert machine.seen == [INTERRUPTED] * 3


def test_an_intercept_that_comes_first_is_not_lost(threads):
    """In every schedule with at most two preemptions each halt is seen once."""
    strategy = Dfs(preemptions=2)
    executions, outcomes = 0, set()
    while executions < 400 and strategy.begin(executions):
        machine = Machine(halts_every=1)
        machine.play(threads, strategy, times=2, begun=True)
        outcomes.add(tuple(machine.seen))
        assert machine.seen.count(INTERCEPTED) == machine.retired
        executions += 1
    assert (INTERCEPTED, INTERRUPTED) in outcomes
    assert (INTERRUPTED, INTERRUPTED) in outcomes


def test_without_a_signal_no_step_is_added(threads):
    machine = Machine(halts_every=3)
    rt = threads({"vp0": machine.dispatch}, set_up=machine.set_up)
    assert machine.seen == [INTERCEPTED]
    labels = [op.label for _, op in rt.trace]
    assert "vp.host_interrupt" not in labels
    assert labels.count("hypercall.dispatch_vp") == 1


@pytest.mark.parametrize("seed", range(10))
def test_a_signal_does_not_end_other_hypercalls(threads, seed):
    """Interrupts are off there; a call that comes back early would be taken for done."""
    hv = Hypervisor()
    partition = hv.create_partition_direct(vps=0, pool=1)

    async def caller():
        current().signal()
        result = await hv.call(HvCall.UNMAP_GPA, partition.id, reps=4, gfn=0x200)
        assert result.done == 4

    assert threads({"caller": caller}, strategy=RandomWalk(seed)).finding is None
