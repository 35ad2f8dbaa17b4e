"""The address space: VMAs, page table, locks and its two counters (spec.md 1.1, 1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.host.folio import take_hugetlb, take_large
from mshv_async.host.huge import parts_of_hole
from mshv_async.host.page import PAGE_SHIFT, PAGE_SIZE, page_aligned, pages_of
from mshv_async.host.pte import PRESENT, ZERO_PTE, Pte
from mshv_async.host.vma import FLAGS_OF_BACKING, Vma
from mshv_async.sim import Op, RangeMap, Refcount, RwSem, Shared, do

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mshv_async.host.frames import HostMemory
    from mshv_async.host.notifier import NotifierSubscriptions
    from mshv_async.sim import Thread


class MmFlags(Shared):
    """Atomic bits. ``oom_victim``: it was killed for its memory; ``unstable``: the OOM reaper
    began, faults fail; ``oom_skip``: nothing more is to be had from it.
    """  # noqa: D205

    __slots__ = ("oom_skip", "oom_victim", "unstable")
    _sync = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.unstable = False
        self.oom_victim = False
        self.oom_skip = False


COLOUR = 1024
"""By how many pages the first choices of one address space are apart from those of the next."""


class Mm(Shared):
    """An address space.

    ``users``: threads and temporary users; at zero it is dismantled. ``refs``: keeps the structure
    only. ``threads``: those that a fatal signal to the process reaches. ``colour``: by how much
    its pages' frames of choice are apart from those of other address spaces.
    """

    __slots__ = (
        "colour",
        "flags",
        "host",
        "mmap_lock",
        "op_flush",
        "op_get",
        "op_put",
        "ptes",
        "refs",
        "rmap_lock",
        "subscriptions",
        "threads",
        "users",
        "vmas",
    )
    _embedded = ("flags", "mmap_lock", "ptes", "refs", "rmap_lock", "users", "vmas")
    _const = ("colour", "host", "op_flush", "op_get", "op_put", "threads", *_embedded)

    def __init__(self, host: HostMemory, name: str = "mm0", *, barging: bool = False) -> None:
        super().__init__(name)
        self.host = host
        self.users = Refcount(f"{name}.users")
        self.refs = Refcount(f"{name}.refs")
        self.flags = MmFlags(f"{name}.flags")
        self.vmas: RangeMap[Vma] = RangeMap(f"{name}.vmas")
        self.ptes: RangeMap[Pte] = RangeMap(f"{name}.ptes", linear=True)
        self.mmap_lock = RwSem(f"{name}.mmap_lock", "mmap_lock", barging=barging)
        self.rmap_lock = RwSem(f"{name}.rmap_lock", "rmap_lock")
        self.subscriptions: NotifierSubscriptions | None = None
        self.threads: list[Thread] = []
        self.colour = COLOUR * len(host.mms) + 1
        host.mms = (*host.mms, self)
        self.op_flush = Op("tlb.flush", self)
        self.op_get = Op("mm.get", self)
        self.op_put = Op("mm.put", self)

    # -- set-up: no points -----------------------------------------------------------------

    def add_vma(
        self,
        start: int,
        length: int,
        prot: str = "rw",
        flags: Iterable[str] = (),
        *,
        pgoff: int = 0,
        backing: str = "anon",
    ) -> Vma:
        """Map ``length`` bytes at ``start`` where nothing is mapped. No point, no probe.

        ``backing`` adds the flags that belong to it; device memory gets pfns of its own unless
        ``pgoff`` names the first. Hugetlb memory reserves nothing, as with MAP_NORESERVE.
        """
        assert page_aligned(start, length), "VMAs are page aligned"
        flags = FLAGS_OF_BACKING[backing].union(flags)
        if backing == "device" and not pgoff:
            pgoff = self.host.device_pfns(length >> PAGE_SHIFT)
        vma = Vma(start, start + length, prot, flags, pgoff, backing)
        unit = PAGE_SIZE << vma.hugetlb_order
        assert not (start | length) % unit, "hugetlb VMAs are of whole huge pages"
        assert not self.vmas.runs(*vma.vpns), "an area is mapped there already"
        self.vmas.set(*vma.vpns, vma)
        return vma

    def populate(self, start: int, npages: int, *, write: bool = True) -> None:
        """Fault in ``npages`` untouched pages: frames of their own, or the zero page to read.

        Huge pages where a fault would take them; then more than was asked for may be populated.
        """
        lo, hi = pages_of(start, npages << 12)
        for a, b, pte in self.ptes.pieces(lo, hi):
            if pte is None and write and self.host.large:
                self._populate_hole(a, b)
            elif pte is None and write:
                self._populate_small(a, b)
            elif pte is None:
                self.ptes.set(a, b, ZERO_PTE)

    def _populate_small(self, lo: int, hi: int) -> None:
        runs = self.host.take(hi - lo)
        assert runs is not None, "the host has not enough memory for the set-up"
        self.install(lo, runs, write=True)

    def _populate_hole(self, lo: int, hi: int) -> None:
        for a, b, vma in self.vmas.pieces(lo, hi):
            parts = [(a, b, 0)] if vma is None else parts_of_hole(self, vma, a, b)
            for x, y, order in parts:
                hugetlb = vma is not None and vma.hugetlb_order > 0
                take = take_hugetlb if hugetlb else take_large
                folio = take(self.host, order) if order else None
                assert folio is not None or not hugetlb, "the host has not enough huge pages"
                if folio is not None:
                    self.install(x, [(folio.head, folio.end)], write=True, order=order)
                else:
                    self._populate_small(max(x, a), min(y, b))

    # -- entries ---------------------------------------------------------------------------

    def install(
        self,
        vpn: int,
        runs: list[tuple[int, int]],
        *,
        write: bool,
        order: int = 0,
        dirty: bool = False,
    ) -> None:
        """Map the frames of ``runs`` from ``vpn`` on. The caller probes and holds the ordering."""
        for lo, hi in runs:
            self.host.add_rmap(lo, hi - lo, self, vpn)
            self.ptes.set(vpn, vpn + hi - lo, Pte(PRESENT, lo, write, write or dirty, order))
            vpn += hi - lo


def mmgrab(mm: Mm) -> None:
    """Keep the structure allocated."""
    mm.refs.inc()


def mmdrop(mm: Mm) -> None:
    """Let the structure go."""
    mm.refs.dec_and_test()


async def mmget_not_zero(mm: Mm) -> bool:
    """Become a user unless the address space is already being dismantled."""
    await do(mm.op_get)
    return mm.users.inc_not_zero()


async def mmap_read_lock(mm: Mm) -> None:
    """Take mmap_lock for reading, uninterruptibly."""
    await mm.mmap_lock.down_read()


async def mmap_read_lock_killable(mm: Mm) -> int:
    """Take mmap_lock for reading; -EINTR on a fatal signal."""
    return await mm.mmap_lock.down_read_killable()


async def mmap_read_trylock(mm: Mm) -> bool:
    """Take mmap_lock for reading if that needs no wait."""
    return await mm.mmap_lock.down_read_trylock()


async def mmap_read_unlock(mm: Mm) -> None:
    """Release mmap_lock taken for reading."""
    await mm.mmap_lock.up_read()


async def mmap_write_lock(mm: Mm) -> None:
    """Take mmap_lock for writing, uninterruptibly."""
    await mm.mmap_lock.down_write()


async def mmap_write_lock_killable(mm: Mm) -> int:
    """Take mmap_lock for writing; -EINTR on a fatal signal."""
    return await mm.mmap_lock.down_write_killable()


async def mmap_write_unlock(mm: Mm) -> None:
    """Release mmap_lock taken for writing."""
    await mm.mmap_lock.up_write()


async def mmap_write_downgrade(mm: Mm) -> None:
    """Turn the writer's hold into a reader's."""
    await mm.mmap_lock.downgrade_write()


def find_vma(mm: Mm, addr: int) -> Vma | None:
    """Return the first VMA that ends behind ``addr``; it may start behind it too.

    mmap_lock is held.
    """
    vpn = addr >> 12
    found = mm.vmas.get(vpn)
    if found is None:
        behind = mm.vmas.runs(vpn, 1 << 52)
        found = behind[0][2] if behind else None
    return found


def vma_lookup(mm: Mm, addr: int) -> Vma | None:
    """Return the VMA that contains ``addr``. mmap_lock is held."""
    return mm.vmas.get(addr >> 12)
