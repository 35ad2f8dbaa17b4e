"""Building the world that a scenario describes, without steps, and the threads that explore it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mshv_async.driver import (
    MSHV_SET_MEM_EXECUTABLE,
    MSHV_SET_MEM_WRITABLE,
    V6,
    MshvPartition,
    MshvUserMemRegion,
)
from mshv_async.guest import GuestProcessor
from mshv_async.host import PAGE_SHIFT, HostMemory, Mm
from mshv_async.hyperv import HvPartition, Hypervisor, SchedulerType
from mshv_async.oracle import Observed, attach
from mshv_async.scenario.named import named_gfns, named_vpns
from mshv_async.sim import CostTable, Grain, Runtime, Tag
from mshv_async.sim.current import instrumented
from mshv_async.sim.driven import DrivenRuntime
from mshv_async.sim.realtime import RealtimeRuntime
from mshv_async.vmm import VmmProcess

if TYPE_CHECKING:
    from mshv_async.driver import DriverSpec
    from mshv_async.scenario.loading import Scenario
    from mshv_async.scenario.model import Region
    from mshv_async.sim.checkers import StepChecker
    from mshv_async.sim.strategies import Strategy

_FLAG_BITS = {"writable": MSHV_SET_MEM_WRITABLE, "executable": MSHV_SET_MEM_EXECUTABLE}


class _HostPages:
    """What the guest sees of host memory: contents by page frame number."""

    __slots__ = ("host",)

    def __init__(self, host: HostMemory) -> None:
        self.host = host

    def load(self, pfn: int) -> Tag | int:
        """Return what a page holds."""
        return self.host.content(pfn)

    def store(self, pfn: int, tag: Tag) -> None:
        """Let a page hold a tag."""
        self.host.set_content(pfn, tag)


@dataclass(eq=False)
class World:
    """Everything that one execution runs on."""

    rt: Runtime
    host: HostMemory
    mm: Mm
    hv: Hypervisor
    hv_partition: HvPartition
    driver: V6
    partition: MshvPartition
    vmm: VmmProcess
    guests: tuple[GuestProcessor, ...]
    oracle: tuple[Any, ...]

    def roots(self) -> tuple[Any, ...]:
        """Return the objects that all state of the world is reached from."""
        return (self.hv, self.host, self.mm, self.partition, self.vmm, self.guests, self.oracle)


@dataclass(frozen=True, eq=False)
class WorldPlan:
    """What all worlds of a scenario and a driver have in common: worked out once, never changed.

    ``vpns`` and ``gfns``: which pages get steps of their own. ``regions``: the arguments of the
    ioctls that would have made the regions.
    """

    scenario: Scenario
    driver: DriverSpec
    vpns: Grain
    gfns: Grain
    named_reps: tuple[int, ...]
    regions: tuple[MshvUserMemRegion, ...]
    costs: CostTable

    @classmethod
    def of(cls, scenario: Scenario, driver: DriverSpec) -> WorldPlan:
        """Plan the worlds of a scenario."""
        placed = {place.origin: place.uaddr for place in scenario.addresses.placed}
        return cls(
            scenario,
            driver,
            vpns=Grain(named_vpns(scenario)),
            gfns=Grain(named_gfns(scenario), exact=scenario.hypervisor.reps == "exact"),
            named_reps=tuple(i.rep for i in scenario.inject if i.rep is not None),
            regions=tuple(
                _as_ioctl(region, placed[f"region[{index}]"])
                for index, region in enumerate(scenario.region)
            ),
            costs=CostTable(dict(scenario.time)),
        )


def _as_ioctl(region: Region, uaddr: int) -> MshvUserMemRegion:
    flags = 0
    for flag in region.flags:
        flags |= _FLAG_BITS[flag]
    return MshvUserMemRegion(region.size, region.gfn, uaddr, flags)


def build_runtime(
    plan: WorldPlan,
    strategy: Strategy,
    *,
    mode: str = "explore",
    seed: int = 1,
    keep: bool = False,
    checkers: tuple[StepChecker, ...] = (),
    instrument: bool = False,
) -> Runtime:
    """Return a runtime with the planned world set up and its threads ready to start."""
    scenario = plan.scenario
    options: dict[str, Any] = {
        "seed": seed,
        "bounds": scenario.bounds,
        "costs": plan.costs,
        "injections": scenario.inject,
        "keep": keep,
        "panic_on_warn": scenario.panic_on_warn,
        "is_driver": is_driver_module,
        "checkers": checkers,
        "suspended": bool(checkers),
    }
    rt = _runtime(mode, strategy, options)
    if not instrument:
        _build(rt, plan)
        return rt
    token = instrumented.set(True)
    try:
        _build(rt, plan)
    finally:
        instrumented.reset(token)
    return rt


def _runtime(mode: str, strategy: Strategy, options: dict[str, Any]) -> Runtime:
    if mode == "realtime":
        return RealtimeRuntime(strategy, **options)
    if mode == "driven":
        return DrivenRuntime(strategy, **options)
    return Runtime(strategy, mode=mode, **options)


def is_driver_module(module: str) -> bool:
    """Say whether a module holds driver code: the project's driver room, or a user's file."""
    return module.startswith("mshv_async.driver") or not module.startswith("mshv_async")


def _build(rt: Runtime, plan: WorldPlan) -> None:
    scenario = plan.scenario
    host = HostMemory(
        scenario.host.memory >> PAGE_SHIFT, scenario.host.swap >> PAGE_SHIFT, plan.vpns
    )
    mm = Mm(host, "mm0")
    scheduler = SchedulerType.ROOT
    if scenario.hypervisor.scheduler != "root":
        scheduler = SchedulerType.CLASSIC_LP
    hv = Hypervisor(scheduler=scheduler, grain=plan.gfns, named_reps=plan.named_reps)
    vps = sum(thread.kind == "vp" for thread in scenario.threads)
    hv_partition = hv.create_partition_direct(vps=vps, pool=scenario.hypervisor.pool)
    driver = plan.driver.cls(
        hv,
        host,
        scheduler=scheduler,
        mmu_notifier=scenario.partition.mmu_notifier,
        arch=scenario.partition.arch,
    )
    partition = driver.new_partition(hv_partition.id, mm)
    driver.setup_partition(hv_partition.id, partition)
    for region in plan.regions:
        _set_up_region(mm, driver, partition, region)
    vmm = VmmProcess(mm, driver, partition, scenario.addresses)
    guests = _start(rt, scenario, vmm, hv_partition, host)
    observed = Observed(rt, host, mm, hv_partition, partition, vmm.vp_threads)
    oracle = tuple(attach(observed))
    world = World(
        rt, host, mm, hv, hv_partition, driver, partition, vmm, guests, (observed, *oracle)
    )
    rt.world = world
    rt.roots = world.roots


def _set_up_region(mm: Mm, driver: V6, partition: MshvPartition, region: MshvUserMemRegion) -> None:
    first = region.userspace_addr >> PAGE_SHIFT
    # Two regions may show the same memory.
    for lo, hi, vma in mm.vmas.pieces(first, first + (region.size >> PAGE_SHIFT)):
        if vma is None:
            mm.add_vma(lo << PAGE_SHIFT, (hi - lo) << PAGE_SHIFT)
    driver.setup_region(partition, region)


def _start(
    rt: Runtime,
    scenario: Scenario,
    vmm: VmmProcess,
    hv_partition: HvPartition,
    host: HostMemory,
) -> tuple[GuestProcessor, ...]:
    memory = _HostPages(host)
    guests: list[GuestProcessor] = []
    for plan in scenario.threads:
        if plan.kind == "vp":
            assert plan.source is not None
            guest = GuestProcessor(hv_partition.vps[len(guests)], plan.source, memory)
            guest.start(rt, vmm.start_vp(rt, len(guests), guest))
            guests.append(guest)
    for plan in scenario.threads:
        if plan.kind != "vp":
            vmm.start_thread(rt, plan.name, plan.kind, plan.program)
    return tuple(guests)
