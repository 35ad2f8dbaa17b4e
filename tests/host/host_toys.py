"""Toy worlds for the host: a mirror that keeps the documented HMM pattern, and chosen schedules."""

from __future__ import annotations

from errno import EBUSY
from typing import TYPE_CHECKING, Any

from mshv_async.host import (
    HMM_PFN_REQ_FAULT,
    HMM_PFN_REQ_WRITE,
    HmmPfns,
    HmmRange,
    HostMemory,
    Mm,
    MmuIntervalNotifier,
    hmm_range_fault,
    insert_direct,
    mmap_read_lock,
    mmap_read_unlock,
    mmu_interval_read_begin,
    mmu_interval_read_retry,
    mmu_interval_set_seq,
    mmu_notifier_range_blockable,
)
from mshv_async.sim import Grain, Mutex, RangeMap, Runtime, cond_resched, point, run_on_stage
from mshv_async.sim.strategies import Fifo

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = 0x7F0000000000
VPN = BASE >> 12
PAGE = 4096


class Script(Fifo):
    """Runs one named thread until it stands before an operation, then the next entry.

    An entry also ends when its thread cannot go on. Behind the last entry it is fifo.
    """

    def __init__(self, *entries: tuple[str, str]) -> None:
        self.entries = list(entries)

    def pick(self, enabled, current):
        while self.entries:
            name, label = self.entries[0]
            index = next((i for i, t in enumerate(enabled) if t.name == name), None)
            if index is not None and enabled[index].op.label != label:
                return index
            self.entries.pop(0)
        return super().pick(enabled, current)


class World:
    """A host with one mm and one VMA of ``pages`` pages at BASE; collects what threads return."""

    def __init__(self, pages=8, *, memory=256, swap=0, named=None, backing="anon", **host) -> None:
        grain = Grain(range(VPN, VPN + pages) if named is None else named)
        self.host = HostMemory(memory, swap, grain, **host)
        self.mm = Mm(self.host)
        self.mm.add_vma(BASE, pages * PAGE, backing=backing)
        self.pages = pages
        self.results: dict[str, Any] = {}
        self.probes: list[tuple[str, tuple[Any, ...]]] = []
        self.rt: Runtime | None = None

    def run(self, bodies: dict[str, Callable[[], Any]], strategy=None, *, fine=True, **options):
        strategy = strategy or Fifo()
        if not isinstance(strategy, Script):
            strategy.begin(0)
        rt = self.rt = Runtime(strategy, **options)
        for name in PROBES:
            rt.watch(name, lambda *args, name=name: self.probes.append((name, args)))
        for name, body in bodies.items():
            thread = rt.spawn(name, lambda name=name, body=body: self._keep(name, body))
            self.mm.threads.append(thread)
        run_on_stage(lambda stage: stage.play(rt))
        if fine:
            assert rt.finding is None, rt.finding
        return rt

    async def _keep(self, name, body) -> None:
        self.results[name] = await body()

    def seen(self, name: str) -> list[tuple[Any, ...]]:
        return [args for probe, args in self.probes if probe == name]


def huge_world(pages: int = 512, *, memory: int = 4096, named=(), **host) -> World:
    """A world whose VMA takes transparent huge pages, and where only few pages have own steps."""
    return World(pages, memory=memory, named=named, backing="thp", thp="madvise", **host)


def labels(rt, name):
    """Return the steps of a thread, in order."""
    tid = next(t.tid for t in rt.all_threads if t.name == name)
    return [op.label for thread, op in rt.trace if thread == tid]


def brackets(world):
    """Return the events in their order, with first page and number of pages in the VMA."""
    return [
        (r.event.name, (r.start - BASE) // PAGE, (r.end - r.start) // PAGE)
        for (r,) in world.seen("bracket.begin")
    ]


PROBES = (
    "frame.pin",
    "frame.unpin",
    "folio.split",
    "reclaim.direct",
    "frame.free",
    "pte.change",
    "pte.discard",
    "page.store",
    "vma.change",
    "bracket.begin",
    "bracket.start",
    "bracket.end",
    "callback.enter",
    "callback.return",
    "mni.insert",
    "mni.remove",
    "seq.change",
    "subseq.change",
)


class Mirror:
    """A device's page table over pages ``[first, first + pages)`` of the world's VMA."""

    def __init__(self, world: World, first: int = 0, pages: int | None = None, *, direct=True):
        self.world = world
        self.start = BASE + first * PAGE
        self.pages = world.pages - first if pages is None else pages
        self.mutex = Mutex(f"user{first}", "user_lock")
        self.table: RangeMap[Any] = RangeMap(f"mirror{first}", linear=True)
        self.mni = MmuIntervalNotifier(f"mni{first}")
        self.retries = 0
        self.events: list[Any] = []
        self.refuse = False
        if direct:
            insert_direct(self.mni, world.mm, self.start, self.pages * PAGE, self.invalidate)

    async def invalidate(self, mni, range, cur_seq):
        self.events.append(range)
        if mmu_notifier_range_blockable(range):
            await self.mutex.lock()
        elif not await self.mutex.trylock():
            return False
        await mmu_interval_set_seq(mni, cur_seq)
        lo = max(range.start, self.start) >> 12
        hi = min(range.end, self.start + self.pages * PAGE) >> 12
        await point("mirror.clear", self.table, lo, hi)
        if not self.refuse:
            self.table.clear(lo, hi)
        await self.mutex.unlock()
        return not self.refuse

    async def fault(self, page: int = 0, count: int | None = None, *, write=True) -> int:
        start = BASE + page * PAGE
        count = self.pages if count is None else count
        flags = HMM_PFN_REQ_FAULT | (HMM_PFN_REQ_WRITE if write else 0)
        request = HmmRange(self.mni, start, start + count * PAGE, HmmPfns(count), flags)
        while True:
            request.notifier_seq = await mmu_interval_read_begin(self.mni)
            await mmap_read_lock(self.world.mm)
            ret = await hmm_range_fault(request)
            await mmap_read_unlock(self.world.mm)
            if ret == -EBUSY:
                self.retries += 1
                await cond_resched()
                continue
            if ret:
                return ret
            await self.mutex.lock()
            if await mmu_interval_read_retry(self.mni, request.notifier_seq):
                await self.mutex.unlock()
                self.retries += 1
                await cond_resched()
                continue
            base = start >> 12
            await point("mirror.program", self.table, base, base + count)
            for lo, hi, word in request.hmm_pfns.runs(0, count):
                self.table.set(base + lo, base + hi, word)
            await self.mutex.unlock()
            return 0

    def stale(self) -> list[tuple[int, int]]:
        """Pages that the mirror maps otherwise than the page table does."""
        found = []
        for lo, hi, word in self.table.runs(0, 1 << 52):
            for vpn in range(lo, hi):
                pte = self.world.mm.ptes.get(vpn)
                if pte is None or not pte.present or pte.pfn != word.advance(vpn - lo).pfn:
                    found.append((vpn - VPN, word.pfn))
        return found
