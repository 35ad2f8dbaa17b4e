"""A small machine with a VMM and one partition, for tests of the driver: no oracle, no scenario.

``Machine`` is built without steps; ``play`` runs named threads under a strategy. ``Planted`` is a
schedule written by hand: each entry lets one thread go on until it stands before a label.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mshv_async.driver import (
    MSHV_SET_MEM_EXECUTABLE,
    MSHV_SET_MEM_WRITABLE,
    MshvUserMemRegion,
    resolve_driver,
)
from mshv_async.guest import GuestProcessor, Program, read, write
from mshv_async.host import HostMemory, Mm
from mshv_async.hyperv import Hypervisor, SchedulerType
from mshv_async.scenario.programs import Program as ThreadProgram
from mshv_async.scenario.programs import parse_line
from mshv_async.sim import Runtime, run_on_stage
from mshv_async.sim.strategies import Fifo
from mshv_async.vmm import VmmProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.driver import MshvMemRegion
    from mshv_async.sim import Injection, Tag, Thread

GFN = 0x200
UADDR = 0x1000_0000
RW = MSHV_SET_MEM_WRITABLE | MSHV_SET_MEM_EXECUTABLE


class Addresses:
    """gfn 0x200 lies at ``UADDR``, and so on, page by page."""

    def address(self, gfn: int, pages: int = 1) -> int:
        del pages
        return UADDR + ((gfn - GFN) << 12)


class HostPages:
    def __init__(self, host: HostMemory) -> None:
        self.host = host

    def load(self, pfn: int) -> Tag | int:
        return self.host.content(pfn)

    def store(self, pfn: int, tag: Tag) -> None:
        self.host.set_content(pfn, tag)


def argument(gfn: int = GFN, pages: int = 2, flags: int = RW, uaddr: int | None = None) -> Any:
    where = Addresses().address(gfn) if uaddr is None else uaddr
    return MshvUserMemRegion(pages << 12, gfn, where, flags)


@dataclass
class Planted:
    """Entries (thread, label): run the thread until it stands before that label, or to its end.

    While it waits, whoever works for it runs (its hypercall worker, its guest), then anybody else.
    After the last entry the threads run in turn.
    """

    entries: list[tuple[str, str | None]]
    position: int = field(default=0, init=False)
    rest: Fifo = field(default_factory=Fifo, init=False)
    suspended = False
    records = False
    probes = 0

    def begin(self, execution: int) -> bool:
        return execution == 0

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        while self.position < len(self.entries):
            name, label = self.entries[self.position]
            thread = next((t for t in enabled[0].rt.all_threads if t.name == name), None)
            if thread is None or thread.finished or thread.op.label == label:
                self.position += 1
                continue
            if thread in enabled:
                return enabled.index(thread)
            workers = (f"lp-{name}", name.replace("vp", "guest"), "hv-isr")
            for index, other in enumerate(enabled):
                if other.name in workers:
                    return index
            break
        return self.rest.pick(enabled, current)

    def value(self, label: str, bound: int) -> int:
        del label, bound
        return 0


class Machine:
    """Host, hypervisor, driver and VMM; ``guests`` are the programs of the VPs.

    ``backing``: what the regions' memory is. ``host`` and ``hv``: further options of the two.
    """

    def __init__(
        self,
        driver: str = "v6",
        *,
        guests: Sequence[Program] = (),
        regions: Sequence[MshvUserMemRegion] = (),
        host_pages: int = 4096,
        swap_pages: int = 0,
        pool: int = 64,
        scheduler: SchedulerType = SchedulerType.ROOT,
        named_reps: Sequence[int] = (),
        backing: str = "anon",
        host: dict[str, Any] | None = None,
        hv: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        self.host = HostMemory(host_pages, swap_pages, **(host or {}))
        self.mm = Mm(self.host, "mm0")
        self.hv = Hypervisor(scheduler=scheduler, named_reps=named_reps, **(hv or {}))
        self.hv_partition = self.hv.create_partition_direct(vps=len(guests), pool=pool)
        self.driver = resolve_driver(driver).cls(self.hv, self.host, scheduler=scheduler, **config)
        self.partition = self.driver.new_partition(self.hv_partition.id, self.mm)
        self.driver.setup_partition(self.hv_partition.id, self.partition)
        for mem in regions:
            if not self.mm.vmas.runs(
                mem.userspace_addr >> 12, (mem.userspace_addr + mem.size) >> 12
            ):
                self.mm.add_vma(mem.userspace_addr, mem.size, backing=backing)
            self.driver.setup_region(self.partition, mem)
        self.guests = guests
        self.vmm = VmmProcess(self.mm, self.driver, self.partition, Addresses())
        self.accesses: list[tuple[str, int, Tag | int]] = []
        self.unhandled: list[int] = []
        self.ioctls: list[tuple[str, int]] = []

    @property
    def slat(self) -> Any:
        return self.hv_partition.slat

    def entries(self, lo: int = 0, hi: int = 1 << 40) -> list[tuple[int, int, str, bool]]:
        """The table as runs (first, end, kind, large) of neighbours that are alike."""
        found: list[tuple[int, int, str, bool]] = []
        for a, b, e in self.slat.runs(lo, hi):
            if found and found[-1][1:] == (a, e.kind, e.large):
                found[-1] = (found[-1][0], b, e.kind, e.large)
            else:
                found.append((a, b, e.kind, e.large))
        return found

    def regions(self) -> list[MshvMemRegion]:
        return self.partition.pt_mem_regions.regions()

    def play(
        self,
        programs: dict[str, list[str]] | None = None,
        *,
        strategy: Any = None,
        bodies: dict[str, Any] | None = None,
        injections: tuple[Injection, ...] = (),
        watch: dict[str, Any] | None = None,
        before: Any = None,
        **options: Any,
    ) -> Runtime:
        """Run the guests, the programs (``kind`` or ``kind:name`` to lines) and the bodies.

        ``before(rt)`` is called when all else is set up.
        """
        strategy = strategy or Fifo()
        strategy.begin(0)
        rt = Runtime(
            strategy,
            injections=injections,
            is_driver=lambda m: m.startswith("mshv_async.driver"),
            **options,
        )
        for name, watcher in (watch or {}).items():
            rt.watch(name, watcher)
        rt.watch("guest.access", self._accessed)
        rt.watch("guest.unhandled", lambda _, message: self.unhandled.append(message.gfn))
        rt.watch("ioctl.return", lambda _, name, ret, __: self.ioctls.append((name, ret)))
        for index, program in enumerate(self.guests):
            vp = self.hv_partition.vps[index]
            guest = GuestProcessor(vp, program, HostPages(self.host))
            guest.start(rt, self.vmm.start_vp(rt, index, guest))
        for key, lines in (programs or {}).items():
            kind, _, name = key.partition(":")
            parsed = ThreadProgram(tuple(parse_line(line, kind) for line in lines))
            self.vmm.start_thread(rt, name or kind, kind, parsed)
        for name, body in (bodies or {}).items():
            thread = rt.spawn(name, body)
            thread.mm = self.mm
            self.mm.threads.append(thread)
        if before is not None:
            before(rt)
        run_on_stage(lambda stage: stage.play(rt))
        return rt

    async def issue(self, act: Any) -> None:
        self.results.append(await act(self.driver))

    def call(self, *acts: Any, **options: Any) -> list[Any]:
        """Run coroutines ``act(driver)`` one after the other on a VMM thread; their results."""
        self.results: list[Any] = []

        async def body() -> None:
            for act in acts:
                await self.issue(act)

        rt = self.play(bodies={"vmm": body}, **options)
        assert verdict(rt) == "clean", rt.finding
        return self.results

    def _accessed(self, guest: Any, kind: Any, gfn: int, entry: Any, tag: Tag | int) -> None:
        del entry
        self.accesses.append((f"{guest.vp.index}{kind.name[0].lower()}", gfn, tag))


def verdict(rt: Runtime) -> str:
    return rt.finding.verdict if rt.finding else "clean"


def touches(*operations: Any) -> Program:
    return Program.of(*operations)


__all__ = [
    "GFN",
    "RW",
    "UADDR",
    "Machine",
    "Planted",
    "argument",
    "read",
    "touches",
    "verdict",
    "write",
]
