"""Building the world that a scenario describes, without steps, and the threads that explore it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mshv_async.driver import (
    MSHV_SET_MEM_EXECUTABLE,
    MSHV_SET_MEM_WRITABLE,
    V6,
    MshvPartition,
    MshvUserMemRegion,
)
from mshv_async.guest import GuestProcessor
from mshv_async.host import PAGE_SHIFT, HostMemory, Mm, kswapd_body, oom_reaper_body
from mshv_async.hyperv import HvPartition, Hypervisor, SchedulerType, SlatRules
from mshv_async.oracle import Observed, attach
from mshv_async.scenario.addresses import UADDR_BASE
from mshv_async.scenario.model import Host
from mshv_async.scenario.named import named_gfns, named_vpns
from mshv_async.scenario.references import created_vps
from mshv_async.sim import CostTable, Grain, Runtime, Tag
from mshv_async.sim.current import instrumented
from mshv_async.sim.driven import DrivenRuntime
from mshv_async.sim.realtime import RealtimeRuntime
from mshv_async.vmm import Process, VmmProcess

if TYPE_CHECKING:
    from mshv_async.driver import DriverSpec
    from mshv_async.scenario.loading import Scenario
    from mshv_async.scenario.model import Region
    from mshv_async.sim.checkers import StepChecker
    from mshv_async.sim.strategies import Strategy

Backings = tuple[tuple[str, int], ...]
"""Kind and pages of each piece of a region's memory, from its first page on."""

_SCHEDULERS = {"root": SchedulerType.ROOT, "hypervisor": SchedulerType.CLASSIC_LP}
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

    def zero(self, pfn_lo: int, pfn_hi: int) -> None:
        """Clear pages: the hypervisor gives them back."""
        self.host.contents.clear(pfn_lo, pfn_hi)


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
    oracle: tuple[Any, ...]

    @property
    def guests(self) -> tuple[Any, ...]:
        """The guest processors that there are by now."""
        return self.vmm.guests

    def roots(self) -> tuple[Any, ...]:
        """Return the objects that all state of the world is reached from."""
        return (self.hv, self.host, self.mm, self.partition, self.vmm, self.guests, self.oracle)


@dataclass(frozen=True, eq=False)
class WorldPlan:
    """What all worlds of a scenario and a driver have in common: worked out once, never changed.

    ``vpns`` and ``gfns``: which pages get steps of their own. ``regions``: the arguments of the
    ioctls that would have made the regions; ``backings``: of each its memory, piece by piece.
    ``vps``: how many processors there are; ``created``: those that programs create.
    """

    scenario: Scenario
    driver: DriverSpec
    vpns: Grain
    gfns: Grain
    named_reps: tuple[int, ...]
    regions: tuple[MshvUserMemRegion, ...]
    backings: tuple[Backings, ...]
    vps: int
    created: frozenset[int]
    scheduler: SchedulerType
    host_options: dict[str, Any]
    hypervisor_options: dict[str, Any]
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
            backings=tuple(_backings(region) for region in scenario.region),
            vps=sum(thread.kind == "vp" for thread in scenario.threads),
            created=created_vps(scenario.threads),
            scheduler=_SCHEDULERS[scenario.hypervisor.scheduler],
            host_options=_host_options(scenario),
            hypervisor_options=_hypervisor_options(scenario),
            costs=CostTable(dict(scenario.time)),
        )


def _backings(region: Region) -> Backings:
    return tuple((run.backing, run.pages) for run in region.backing_runs)


def _host_options(scenario: Scenario) -> dict[str, Any]:
    """Return the host's options that are not its defaults."""
    host, default = scenario.host, Host()
    return {
        name: getattr(host, name)
        for name in ("thp", "hugetlb_2m", "hugetlb_1g", "watermark", "kswapd", "oom_killer")
        if getattr(host, name) != getattr(default, name)
    }


def _hypervisor_options(scenario: Scenario) -> dict[str, Any]:
    hypervisor = scenario.hypervisor
    return {
        "root_pool": hypervisor.root_pool,
        "tables": hypervisor.tables,
        "failed_deposit": hypervisor.failed_deposit,
        "slat_rules": SlatRules(*(getattr(hypervisor, name) for name in SlatRules._fields)),
    }


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
    token = instrumented.set(rt.instruments or True)
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
        scenario.host.memory >> PAGE_SHIFT,
        scenario.host.swap >> PAGE_SHIFT,
        plan.vpns,
        **plan.host_options,
    )
    mm = Mm(host, "mm0")
    memory = _HostPages(host)
    hv = Hypervisor(
        scheduler=plan.scheduler,
        grain=plan.gfns,
        named_reps=plan.named_reps,
        root_memory=memory,
        **plan.hypervisor_options,
    )
    hv_partition = _hv_partition(hv, plan)
    driver = plan.driver.cls(
        hv,
        host,
        scheduler=plan.scheduler,
        mmu_notifier=scenario.partition.mmu_notifier,
        arch=scenario.partition.arch,
    )
    partition = driver.new_partition(hv_partition.id, mm)
    driver.setup_partition(hv_partition.id, partition)
    for region, runs in zip(plan.regions, plan.backings, strict=True):
        _set_up_region(mm, driver, partition, region, runs)
    vmm = VmmProcess(mm, driver, partition, scenario.addresses)
    _add_processes(vmm, scenario)
    _start(rt, plan, vmm, hv_partition, memory)
    observed = Observed(rt, host, mm, hv_partition, partition, vmm.vp_threads)
    oracle = tuple(attach(observed))
    world = World(rt, host, mm, hv, hv_partition, driver, partition, vmm, (observed, *oracle))
    rt.world = world
    rt.roots = world.roots


def _hv_partition(hv: Hypervisor, plan: WorldPlan) -> HvPartition:
    """Set up the partition with the processors that no program creates."""
    pool = plan.scenario.hypervisor.pool
    if not plan.created:
        return hv.create_partition_direct(vps=plan.vps, pool=pool)
    present = [index for index in range(plan.vps) if index not in plan.created]
    cost = len(present) * hv.costs.create_vp
    partition = hv.create_partition_direct(vps=0, pool=pool + cost)
    partition.pool.draw(cost)
    for index in present:
        partition.new_vp(index)
    return partition


def _set_up_region(
    mm: Mm, driver: V6, partition: MshvPartition, region: MshvUserMemRegion, runs: Backings
) -> None:
    at = region.userspace_addr >> PAGE_SHIFT
    for backing, pages in runs:
        # Two regions may show the same memory.
        for lo, hi, vma in mm.vmas.pieces(at, at + pages):
            if vma is None:
                mm.add_vma(lo << PAGE_SHIFT, (hi - lo) << PAGE_SHIFT, backing=backing)
        at += pages
    driver.setup_region(partition, region)


def _add_processes(vmm: VmmProcess, scenario: Scenario) -> None:
    for spec in scenario.process:
        mm = Mm(vmm.mm.host, spec.name)
        if spec.memory:
            mm.add_vma(UADDR_BASE, spec.memory)
            mm.populate(UADDR_BASE, spec.memory >> PAGE_SHIFT)
        vmm.others[spec.name] = Process(spec.name, mm, vmm.driver)


def _start(
    rt: Runtime,
    plan: WorldPlan,
    vmm: VmmProcess,
    hv_partition: HvPartition,
    memory: _HostPages,
) -> None:
    """Create the threads: processors with their guests, then the others, in file order."""
    index = 0
    for thread in plan.scenario.threads:
        if thread.kind != "vp":
            continue
        assert thread.source is not None
        process = None if thread.process is None else vmm.others[thread.process]
        if index in plan.created:
            make = partial(GuestProcessor, source=thread.source, memory=memory)
            vmm.start_late_vp(rt, index, make, process)
        else:
            guest = GuestProcessor(hv_partition.vps[index], thread.source, memory)
            guest.start(rt, vmm.start_vp(rt, index, guest, process))
        index += 1
    for thread in plan.scenario.threads:
        if thread.kind != "vp":
            process = None if thread.process is None else vmm.others[thread.process]
            vmm.start_thread(rt, thread.name, thread.kind, thread.program, process)
    for name in vmm.others:
        vmm.others[name].start_main(rt)
    _start_daemons(rt, plan, vmm.mm.host)


def _start_daemons(rt: Runtime, plan: WorldPlan, host: HostMemory) -> None:
    """Create the kernel's threads that the host is said to have."""
    if plan.scenario.host.kswapd:
        rt.spawn("kswapd0", partial(kswapd_body, host), daemon=True, kind="kernel")
    if plan.scenario.host.oom_killer:
        rt.spawn("oom_reaper", partial(oom_reaper_body, host), daemon=True, kind="kernel")
