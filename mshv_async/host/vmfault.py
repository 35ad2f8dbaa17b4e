"""A page fault, and what it can come to (spec.md 1.7)."""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from mshv_async.sim import PREEMPT, SLEEP, Op

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm
    from mshv_async.host.pte import Pte
    from mshv_async.host.vma import Vma


class VmFault(IntEnum):
    """What a fault came to; DONE: the entry is there, or the access has to be tried again."""

    DONE = 0
    OOM = 1
    SIGBUS = 2
    SIGSEGV = 3
    HWPOISON = 4

    def to_errno(self) -> int:
        """Return what a system call or a pin reports for it."""
        if self is VmFault.OOM:
            return -errno.ENOMEM
        return -errno.EFAULT if self else 0


class Fault(NamedTuple):
    """A fault on the vpns ``[lo, hi)``, whose entries are the run that begins with ``pte``."""

    mm: Mm
    vma: Vma
    lo: int
    hi: int
    pte: Pte | None
    write: bool

    def op(self, label: str, *, sleep: bool = False) -> Op:
        """Return an operation on the entries."""
        kind = SLEEP if sleep else PREEMPT
        return Op(label, self.mm.ptes, self.lo, self.hi, write=not sleep, kind=kind)

    def unchanged(self) -> list[tuple[int, int, Pte | None]]:
        """Return the parts whose entries are still what they were."""
        lo, pte = self.lo, self.pte
        return [
            (a, b, now)
            for a, b, now in self.mm.ptes.pieces(lo, self.hi)
            if now == (pte.advance(a - lo) if pte is not None else None)
        ]

    def part(self, lo: int, hi: int) -> Fault:
        """Return the fault on other vpns of the same run of entries."""
        pte = None if self.pte is None else self.pte.advance(lo - self.lo)
        return self._replace(lo=lo, hi=hi, pte=pte)

    def whole_leaves(self) -> Fault:
        """Return the fault on all of each leaf that it touches."""
        assert self.pte is not None
        n = 1 << self.pte.order
        return self.part(self.lo & -n, -(-self.hi // n) * n)
