"""A small world: one partition, guests with programs, and a VMM that maps what they miss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mshv_async.guest import GuestProcessor
from mshv_async.hyperv import (
    DISPATCH_CLEAR_INTERCEPT_SUSPEND,
    HvCall,
    HvMessageType,
    HvRegister,
    Hypervisor,
    PageRun,
    RegisterValue,
)
from mshv_async.sim import Grain, Runtime, Shared, SharedDict, run_on_stage
from mshv_async.sim.strategies import Fifo

if TYPE_CHECKING:
    from mshv_async.guest import OperationSource
    from mshv_async.hyperv import VirtualProcessor
    from mshv_async.sim import Tag

GFN = 0x200
RWX = 0xF


class Frames(Shared):
    """Host pages and what they hold."""

    __slots__ = ("content",)
    _const = ("content",)

    def __init__(self) -> None:
        super().__init__("frames")
        self.content: SharedDict[int, Tag] = SharedDict("frames.content")

    def load(self, pfn: int) -> Any:
        return self.content.get(pfn, 0)

    def store(self, pfn: int, tag: Tag) -> None:
        self.content[pfn] = tag


class SmallWorld:
    """Pages ``GFN`` to ``GFN + 8`` are inaccessible at first and mapped with ``rights`` on
    demand; an exit that mapping cannot cure is skipped.
    """

    def __init__(self, *sources: OperationSource, rights: int = RWX, **hv: Any) -> None:
        self.hv = Hypervisor(grain=Grain(range(GFN, GFN + 8)), **hv)
        self.partition = self.hv.create_partition_direct(vps=len(sources))
        self.partition.no_access_direct(GFN, 8)
        self.frames = Frames()
        self.rights = rights
        self.guests = [
            GuestProcessor(self.partition.vps[i], source, self.frames)
            for i, source in enumerate(sources)
        ]
        self.facts: list[tuple[str, tuple[Any, ...]]] = []
        self.exits: list[HvMessageType] = []

    def facts_of(self, name: str) -> list[tuple[Any, ...]]:
        return [args for fact, args in self.facts if fact == name]

    def build(self, rt: Runtime) -> None:
        rt.roots = lambda: (self.hv, self.frames, *self.guests)
        for name in ("guest.issue", "guest.access", "guest.refused", "slat.op", "slat.change"):
            rt.watch(name, lambda *args, fact=name: self.facts.append((fact, args)))
        for guest in self.guests:
            vp = guest.vp
            forever = guest.source.forever
            thread = rt.spawn(
                f"vp{vp.index}", lambda g=guest: self.run_vp(g), forever=forever, kind="vp"
            )
            guest.start(rt, thread)

    async def run_vp(self, guest: GuestProcessor) -> None:
        vp = guest.vp
        clear = (RegisterValue(HvRegister.EXPLICIT_SUSPEND, 0),)
        where = {"vp_index": vp.index}
        await self.hv.call(
            HvCall.SET_VP_REGISTERS, self.partition.id, reps=1, registers=clear, **where
        )
        while True:
            await self.hv.call(
                HvCall.DISPATCH_VP,
                self.partition.id,
                flags=DISPATCH_CLEAR_INTERCEPT_SUSPEND,
                **where,
            )
            message = vp.intercept_message
            self.exits.append(message.type)
            if message.type is HvMessageType.HALT:
                return
            await self.serve(guest, vp)

    async def serve(self, guest: GuestProcessor, vp: VirtualProcessor) -> None:
        gfn = vp.intercept_message.gfn
        entry = self.partition.slat.get(gfn)
        if entry is None or entry.rights:
            guest.skip()
            return
        await self.hv.call(
            HvCall.MAP_GPA,
            self.partition.id,
            reps=1,
            gfn=gfn,
            flags=self.rights,
            pfns=(PageRun(1, gfn + 0x1000),),
        )

    def play(self, strategy: Any = None, **options: Any) -> Runtime:
        strategy = strategy or Fifo()
        strategy.begin(0)
        rt = Runtime(strategy, **options)
        self.build(rt)
        run_on_stage(lambda stage: stage.play(rt))
        return rt


@pytest.fixture
def small_world() -> type[SmallWorld]:
    return SmallWorld
