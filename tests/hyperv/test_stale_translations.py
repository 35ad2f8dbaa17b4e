"""Is the old translation dead when the hypercall returns? Yes, and a mutant where it is not."""

import pytest

from mshv_async.guest import GuestProcessor, Program, read, write
from mshv_async.hyperv import (
    DISPATCH_CLEAR_INTERCEPT_SUSPEND,
    MAP_NO_ACCESS,
    RAM,
    HvCall,
    HvMessageType,
    HvRegister,
    Hypervisor,
    RegisterValue,
    SlatEntry,
    SlatRules,
)
from mshv_async.sim import Grain
from mshv_async.sim.strategies import RandomWalk

GFN = 0x200
SEEDS = 60


class Pages:
    """Host memory that remembers nothing but when it was reached."""

    def load(self, pfn):
        return 0

    def store(self, pfn, tag):
        pass


class Mirror:
    """A guest uses a page again and again while the root takes it away."""

    def __init__(self, operation, accesses=4, **rules):
        self.hv = Hypervisor(grain=Grain([GFN]), slat_rules=SlatRules(**rules))
        self.partition = self.hv.create_partition_direct(vps=1, pool=4)
        self.partition.map_direct(GFN, 1, SlatEntry(RAM, 0x800, 0x3))
        program = Program.of(*[operation(GFN) for _ in range(accesses)])
        self.guest = GuestProcessor(self.partition.vps[0], program, Pages())
        self.taken_away = False
        self.late = 0
        self.refused = 0

    def set_up(self, rt):
        rt.watch("guest.access", lambda *_: self._accessed())
        self.guest.start(rt)

    def _accessed(self):
        self.late += self.taken_away

    async def vp0(self):
        clear = (RegisterValue(HvRegister.EXPLICIT_SUSPEND, 0),)
        await self.hv.call(HvCall.SET_VP_REGISTERS, self.partition.id, reps=1, registers=clear)
        while True:
            flags = DISPATCH_CLEAR_INTERCEPT_SUSPEND
            await self.hv.call(HvCall.DISPATCH_VP, self.partition.id, flags=flags)
            if self.guest.vp.intercept_message.type is HvMessageType.HALT:
                return
            self.refused += 1
            self.guest.skip()

    async def invalidate(self):
        await self.hv.call(HvCall.MAP_GPA, self.partition.id, reps=1, gfn=GFN, flags=MAP_NO_ACCESS)
        self.taken_away = True

    def play(self, threads, seed):
        bodies = {"vp0": self.vp0, "invalidator": self.invalidate}
        rt = threads(bodies, set_up=self.set_up, strategy=RandomWalk(seed))
        assert rt.finding is None, rt.finding
        return rt


@pytest.mark.parametrize("operation", [read, write])
def test_after_the_hypercall_nothing_goes_by_the_old_entry(threads, operation):
    late = 0
    for seed in range(SEEDS):
        mirror = Mirror(operation)
        rt = mirror.play(threads, seed)
        late += mirror.late
        assert "tlb.flush" not in [op.label for _, op in rt.trace]
    assert late == 0


@pytest.mark.parametrize("operation", [read, write])
def test_with_a_delayed_flush_some_schedule_uses_the_old_entry(threads, operation):
    """The page may be somebody else's by then."""
    late = refused = 0
    for seed in range(SEEDS):
        mirror = Mirror(operation, tlb="delayed")
        mirror.play(threads, seed)
        late += mirror.late
        refused += mirror.refused
    assert late
    assert refused  # the flush does come


def test_a_delayed_flush_never_outlives_the_next_hypercall_of_the_caller(threads):
    for seed in range(SEEDS):
        mirror = Mirror(read, tlb="delayed")

        async def invalidate(mirror=mirror):
            await mirror.invalidate()
            mirror.taken_away = False
            await mirror.hv.call(HvCall.UNMAP_GPA, mirror.partition.id, reps=1, gfn=GFN + 1)
            mirror.taken_away = True

        mirror.invalidate_twice = invalidate
        bodies = {"vp0": mirror.vp0, "invalidator": invalidate}
        threads(bodies, set_up=mirror.set_up, strategy=RandomWalk(seed))
        assert mirror.late == 0


def test_a_right_that_the_old_entry_lacks_is_looked_up(threads):
    """Else a guest would be refused what the table grants."""
    mirror = Mirror(read, accesses=0, tlb="delayed")
    vp = mirror.partition.vps[0]
    vp.tlb.set(GFN, GFN + 1, SlatEntry(RAM, 0x700, 0x1))
    assert vp.translate(GFN, read(GFN).access).pfn == 0x700
    assert vp.translate(GFN, write(GFN).access).pfn == 0x800
    assert vp.tlb.get(GFN).pfn == 0x800
