"""The model checkers over the hypervisor: nothing changes unreported, races or hides."""

import pytest

from mshv_async.guest import GuestProcessor, Program, read, write
from mshv_async.hyperv import (
    DISPATCH_CLEAR_INTERCEPT_SUSPEND,
    MAP_LARGE_PAGE,
    MAP_NO_ACCESS,
    RAM,
    ROOT_PARTITION_ID,
    DispatchEvent,
    HvCall,
    HvMessageType,
    HvRegister,
    Hypervisor,
    PageRun,
    RegisterValue,
    SchedulerType,
    SlatEntry,
    SlatRules,
)
from mshv_async.sim import Grain, Injection, Op, Runtime, do, run_on_stage
from mshv_async.sim.footprints import FootprintChecker
from mshv_async.sim.races import RaceChecker
from mshv_async.sim.shared import instrumented
from mshv_async.sim.statekey import state_text
from mshv_async.sim.strategies import RandomWalk

GFN = 0x200

WORLDS = {
    "defaults": {},
    "late flush, root pays": {
        "slat_rules": SlatRules(tlb="delayed", no_access_tables=False),
        "tables": "root",
        "root_pool": 3,
        "failed_deposit": "returned",
    },
    "promotion, pages in groups": {
        "slat_rules": SlatRules(promotion=True, adjustable="enforced"),
        "contiguous": 2,
    },
}


NEW_STEPS = {
    "vp.host_interrupt",
    "tlb.flush",
    "hypercall.finalize.drop",
    "hypercall.delete.rep",
    "hypercall.delete_vp.rep",
    "hypercall.withdraw.rep",
    "guest.write",
}


class Pages:
    """Host memory without content."""

    def load(self, pfn):
        return 0

    def store(self, pfn, tag):
        pass

    def zero(self, pfn_lo, pfn_hi):
        pass


class Busy:
    """Everything at once: faults, invalidations, deposits, signals and a teardown."""

    def __init__(self, options):
        self.pages = Pages()
        self.hv = Hypervisor(
            grain=Grain([GFN, GFN + 1]), named_reps=(1,), root_memory=self.pages, **options
        )
        self.partition = self.hv.create_partition_direct(vps=1, pool=3)
        self.partition.no_access_direct(GFN, 2)
        self.partition.map_direct(0x400, 512, SlatEntry(RAM, 0x800, 0x3, large=True))
        program = Program.of(read(GFN), write(0x401), read(GFN + 1), write(GFN))
        self.guest = GuestProcessor(self.partition.vps[0], program, self.pages)
        self.vp_thread = None

    def call(self, code, **fields):
        return self.hv.call(code, self.partition.id, **fields)

    async def vp0(self):
        clear = (RegisterValue(HvRegister.EXPLICIT_SUSPEND, 0),)
        await self.call(HvCall.SET_VP_REGISTERS, reps=1, registers=clear)
        for _ in range(12):
            flags = DISPATCH_CLEAR_INTERCEPT_SUSPEND
            result = await self.call(HvCall.DISPATCH_VP, flags=flags)
            message = self.guest.vp.intercept_message
            if not result.ok or message.type is HvMessageType.HALT:
                return
            if result.event is DispatchEvent.INTERCEPT:
                await self.map(message.gfn)

    async def map(self, gfn):
        pfns = (PageRun(2, 0x1000),)
        await self.call(HvCall.MAP_GPA, reps=2, gfn=gfn & ~1, flags=0x3, pfns=pfns)

    async def invalidator(self):
        await self.call(HvCall.MAP_GPA, reps=1, gfn=0x401, flags=MAP_NO_ACCESS)
        await self.call(HvCall.UNMAP_GPA, reps=2, gfn=GFN)
        await self.call(HvCall.MAP_GPA, reps=1, gfn=GFN, flags=MAP_NO_ACCESS | MAP_LARGE_PAGE)

    async def vmm(self):
        self.vp_thread.signal()
        await do(Op("vmm.wait"))
        runs = (PageRun(2, 0x2000), PageRun(2, 0x2004))
        await self.call(HvCall.DEPOSIT, reps=4, pfns=runs)
        await self.hv.call(HvCall.DEPOSIT, ROOT_PARTITION_ID, reps=1, pfns=(PageRun(1, 0x3000),))
        await self.call(HvCall.CREATE_VP, vp_index=1)
        await self.call(HvCall.DELETE_VP, vp_index=0)
        await self.call(HvCall.WITHDRAW, reps=512)
        await self.call(HvCall.FINALIZE)
        await self.call(HvCall.WITHDRAW, reps=512)
        await self.call(HvCall.DELETE)
        await self.hv.call(HvCall.CREATE_PARTITION, ROOT_PARTITION_ID)

    def runtime(self, strategy, *checkers):
        failures = (
            Injection("hypercall.deposit", status="TIMEOUT", rep=1),
            Injection("hypercall.finalize", status="TIMEOUT", rep=1),
            Injection("hypercall.map_gpa", status="INSUFFICIENT_ROOT_MEMORY", rep=1),
        )
        rt = Runtime(strategy, checkers=checkers, injections=failures, suspended=True)
        self.vp_thread = rt.spawn("vp0", self.vp0)
        self.guest.start(rt, self.vp_thread)
        rt.spawn("invalidator", self.invalidator)
        rt.spawn("vmm", self.vmm)
        rt.roots = lambda: (self.hv, self.guest)
        rt.opaque = (Pages,)
        return rt


def play(build, executions):
    """Return the labels of all steps that were taken."""
    labels = set()

    async def explore(stage):
        strategy = RandomWalk(1)
        for execution in range(executions):
            strategy.begin(execution)
            rt = build(strategy)
            await stage.play(rt)
            assert rt.error is None
            assert rt.finding is None, rt.finding
            labels.update(op.label for _, op in rt.trace)

    run_on_stage(explore)
    return labels


@pytest.fixture
def checked():
    token = instrumented.set(True)
    yield
    instrumented.reset(token)


@pytest.mark.parametrize("options", WORLDS.values(), ids=WORLDS)
def test_no_step_of_the_hypervisor_changes_state_without_a_word(checked, options):
    checkers = []

    def build(strategy):
        checkers.append(FootprintChecker())
        return Busy(options).runtime(strategy, checkers[-1])

    play(build, 12)
    missing = {str(m) for checker in checkers for m in checker.missing.values()}
    assert not sorted(missing)
    assert sum(checker.checked_steps for checker in checkers) > 500


@pytest.mark.parametrize("options", WORLDS.values(), ids=WORLDS)
def test_no_two_steps_of_the_hypervisor_race(checked, options):
    found = []

    def build(strategy):
        found.append(RaceChecker())
        return Busy(options).runtime(strategy, found[-1])

    labels = play(build, 40)
    assert not sorted({str(race) for checker in found for race in checker.races.values()})
    assert labels | {"tlb.flush"} >= NEW_STEPS


@pytest.mark.parametrize("options", WORLDS.values(), ids=WORLDS)
def test_no_state_of_the_hypervisor_hides_from_the_state_key(options):
    """Two worlds that took the same decisions have the same keys, all along."""

    class Keyed(RandomWalk):
        def pick(self, enabled, current):
            self.texts.append(state_text(self.rt, self.rt.roots(), (Pages, Busy)))
            return super().pick(enabled, current)

    def keys():
        strategy = Keyed(3)
        strategy.texts = []

        def build(strategy):
            strategy.rt = Busy(options).runtime(strategy)
            return strategy.rt

        async def explore(stage):
            for execution in range(4):
                strategy.begin(execution)
                await stage.play(build(strategy))

        run_on_stage(explore)
        return strategy.texts

    assert keys() == keys()


def test_a_kick_is_a_step_that_others_see(checked):
    """The same under the hypervisor's scheduler, where interrupts reach the root."""
    found = []

    def build(strategy):
        found.append(RaceChecker())
        busy = Busy({"scheduler": SchedulerType.CLASSIC_LP})

        async def isr(message):
            await do(Op("isr.kick", busy.partition.vps))

        busy.hv.set_isr(isr)
        return busy.runtime(strategy, found[-1])

    play(build, 20)
    assert not sorted({str(race) for checker in found for race in checker.races.values()})
