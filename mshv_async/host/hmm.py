"""hmm_range_fault: collect the frames of a range, faulting what is missing (spec.md 3)."""

from __future__ import annotations

from errno import EBUSY, EFAULT, EPERM
from typing import TYPE_CHECKING, Final, NamedTuple

from mshv_async.host.fault import handle_mm_fault, wait_on_migration
from mshv_async.host.notifier import mmu_interval_check_retry
from mshv_async.host.page import PAGE_SHIFT, page_aligned
from mshv_async.host.pte import ZERO_PFN, Pte, PteState
from mshv_async.sim import Op, RangeMap, Seq, current, current_or_none, do, note, oops, warn

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm
    from mshv_async.host.notifier import MmuIntervalNotifier
    from mshv_async.host.vma import Vma

HMM_PFN_VALID: Final = 1 << 63
HMM_PFN_WRITE: Final = 1 << 62
HMM_PFN_ERROR: Final = 1 << 61
HMM_PFN_REQ_FAULT: Final = HMM_PFN_VALID
HMM_PFN_REQ_WRITE: Final = HMM_PFN_WRITE


class HmmPfn(NamedTuple):
    """One word of the array, in or out; ``order`` is the mapping's, as in :class:`Pte`."""

    flags: int
    pfn: int = ZERO_PFN
    order: int = 0

    def advance(self, n: int) -> HmmPfn:
        """Return the word ``n`` pages further; the zero page stays what it is."""
        if not n or self.pfn == ZERO_PFN:
            return self
        return HmmPfn(self.flags, self.pfn + n, self.order)

    @property
    def valid(self) -> bool:
        """Whether the page can be read."""
        return bool(self.flags & HMM_PFN_VALID)

    @property
    def writable(self) -> bool:
        """Whether the page can be written."""
        return bool(self.flags & HMM_PFN_WRITE)

    @property
    def error(self) -> bool:
        """Whether the page cannot be accessed."""
        return bool(self.flags & HMM_PFN_ERROR)


class HmmPfns(RangeMap[HmmPfn]):
    """The array of ``count`` words, as runs from page offset in the range; a word of 0 is a hole.

    Runs of the zero page have the same pfn throughout; see :meth:`HmmPfn.advance`.
    """

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        thread = current_or_none()  # whose call it belongs to
        super().__init__(f"hmm_pfns-{thread.name if thread else 'setup'}", linear=True)
        self.count = count


class HmmRange:
    """A request: bytes ``[start, end)`` of the notifier's mm, and the array for the answer.

    The effective request of a page is (its word & ``pfn_flags_mask``) | ``default_flags``.
    """

    __slots__ = (
        "default_flags",
        "end",
        "hmm_pfns",
        "notifier",
        "notifier_seq",
        "pfn_flags_mask",
        "start",
    )

    def __init__(
        self,
        notifier: MmuIntervalNotifier,
        start: int,
        end: int,
        hmm_pfns: HmmPfns,
        default_flags: int = 0,
        *,
        pfn_flags_mask: int = 0,
    ) -> None:
        self.notifier = notifier
        self.notifier_seq = Seq(0)
        self.start = start
        self.end = end
        self.hmm_pfns = hmm_pfns
        self.default_flags = default_flags
        self.pfn_flags_mask = pfn_flags_mask

    def again(self) -> HmmRange:
        """Return the request for another attempt, with nothing in its array yet.

        The kernel's callers use the same array, and nobody reads what an attempt that failed left
        in it. So here it is gone, and no two states differ in it; unless the words are input too.
        """
        if self.pfn_flags_mask:
            return self
        return HmmRange(
            self.notifier,
            self.start,
            self.end,
            HmmPfns(self.hmm_pfns.count),
            self.default_flags,
        )


class _Stop(NamedTuple):
    """Where the walk cannot go on: an errno, or a run of equal entries to be faulted in."""

    lo: int
    hi: int
    errno: int = 0
    vma: Vma | None = None
    write: bool = False
    migration: Pte | None = None


_FAULTED: Final = 1


async def hmm_range_fault(range: HmmRange) -> int:
    """Fill the array; mmap_lock is held. No reference is taken on anything.

    0: every word is filled. -EBUSY: an invalidation of the notifier was seen, begin again.
    -EFAULT: a gap, no right to read, raw memory, poison or a failed fault. -EPERM: write access
    was asked where the VMA has none (spec.md 3.3).
    """
    mm = range.notifier.mm
    if mm is None:
        oops("hmm_range_fault on a notifier without an mm", range.notifier)
    assert page_aligned(range.start, range.end)
    if mm.mmap_lock not in current().held:
        warn("hmm_range_fault: mmap_lock is not held")
    at, end = range.start >> PAGE_SHIFT, range.end >> PAGE_SHIFT
    ret = _FAULTED
    while ret == _FAULTED:
        if await mmu_interval_check_retry(range.notifier, range.notifier_seq):
            ret = -EBUSY
        else:
            at, ret = await _walk(range, mm, at, end)
    note("hmm.range_fault", start=range.start, end=range.end, ret=ret)
    return ret


async def _walk(range: HmmRange, mm: Mm, at: int, end: int) -> tuple[int, int]:
    """Walk from ``at`` on, one step for each piece of the grain; say where it stopped and why."""
    for lo, hi in mm.host.grain.pieces(at, end):
        await do(Op("hmm.walk", mm.ptes, lo, hi, write=False))
        stop = _collect(range, mm, lo, hi)
        if stop is not None:
            return stop.lo, await _serve(mm, stop)
    return end, 0


async def _serve(mm: Mm, stop: _Stop) -> int:
    if stop.errno:
        return stop.errno
    assert stop.vma is not None
    if stop.migration is not None:
        await wait_on_migration(mm, stop.lo, stop.migration)
        return _FAULTED
    if stop.write and not stop.vma.writable:
        return -EPERM
    if await handle_mm_fault(mm, stop.vma, stop.lo, stop.hi, write=stop.write):
        return -EFAULT
    return _FAULTED


def _collect(range: HmmRange, mm: Mm, lo: int, hi: int) -> _Stop | None:
    """Fill the words of ``[lo, hi)`` up to the first page that the request cannot have yet."""
    for vma_lo, vma_hi, vma in mm.vmas.pieces(lo, hi):
        for a, b, request in _requests(range, vma_lo, vma_hi):
            if vma is None or vma.raw or not vma.readable:
                if request & HMM_PFN_REQ_FAULT:
                    return _Stop(a, b, -EFAULT)
                _fill(range, a, b, HMM_PFN_ERROR)
                continue
            for run in mm.ptes.pieces(a, b):
                stop = _entry(range, vma, run, request)
                if stop is not None:
                    return stop
    return None


def _requests(range: HmmRange, lo: int, hi: int) -> list[tuple[int, int, int]]:
    if not range.pfn_flags_mask:
        return [(lo, hi, range.default_flags)]
    base = range.start >> PAGE_SHIFT
    return [
        (
            base + a,
            base + b,
            ((word.flags if word is not None else 0) & range.pfn_flags_mask) | range.default_flags,
        )
        for a, b, word in range.hmm_pfns.pieces(lo - base, hi - base)
    ]


def _fill(
    range: HmmRange, lo: int, hi: int, flags: int, pfn: int = ZERO_PFN, order: int = 0
) -> None:
    base = range.start >> PAGE_SHIFT
    if flags:
        range.hmm_pfns.set(lo - base, hi - base, HmmPfn(flags, pfn, order))
    else:
        range.hmm_pfns.clear(lo - base, hi - base)


def _entry(
    range: HmmRange, vma: Vma, run: tuple[int, int, Pte | None], request: int
) -> _Stop | None:
    """Judge a run of equal entries by the table of spec.md 3.2."""
    lo, hi, pte = run
    fault = bool(request & HMM_PFN_REQ_FAULT)
    write = fault and bool(request & HMM_PFN_REQ_WRITE)
    if pte is not None and pte.present:
        if write and not pte.write:
            return _Stop(lo, hi, vma=vma, write=True)
        flags = HMM_PFN_VALID | (HMM_PFN_WRITE if pte.write else 0)
        _fill(range, lo, hi, flags, pte.pfn, pte.order)
        return None
    state = pte.state if pte is not None else None
    unusable = state is PteState.HWPOISON or state is PteState.SPECIAL
    if not fault:
        _fill(range, lo, hi, HMM_PFN_ERROR if state is PteState.SPECIAL else 0)
        return None
    if unusable:
        return _Stop(lo, hi, -EFAULT)
    migration = pte if state is PteState.MIGRATION else None
    return _Stop(lo, hi, vma=vma, write=write, migration=migration)
