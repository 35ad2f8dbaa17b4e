"""Loads and stores of the VMM itself, one page a time, through its page table."""

from __future__ import annotations

from errno import EFAULT
from typing import TYPE_CHECKING

from mshv_async.host.fault import handle_mm_fault
from mshv_async.host.mm import mmap_read_lock_killable, mmap_read_unlock
from mshv_async.host.page import PAGE_SHIFT
from mshv_async.host.pte import PteState
from mshv_async.host.vmfault import VmFault
from mshv_async.sim import Op, do, probe

if TYPE_CHECKING:
    from mshv_async.host.mm import Mm
    from mshv_async.sim import Tag


async def touch(mm: Mm, uaddr: int) -> Tag | int:
    """Read the page at ``uaddr``: who wrote it last, 0 if nobody.

    -EFAULT: no VMA or no right (a signal, really); -ENOMEM; -EINTR.
    """
    vpn = uaddr >> PAGE_SHIFT
    op = Op("user.read", mm.ptes, vpn, vpn + 1, write=False)
    while True:
        await do(op)
        pte = mm.ptes.get(vpn)
        if pte is not None and (pte.present or pte.state is PteState.SPECIAL):
            return mm.host.content(pte.pfn)
        ret = await _user_fault(mm, vpn, write=False)
        if ret:
            return ret


async def store(mm: Mm, uaddr: int, tag: Tag) -> int:
    """Write the page at ``uaddr``; 0, or the errors of :func:`touch`."""
    vpn = uaddr >> PAGE_SHIFT
    op = Op("user.write", mm.ptes, vpn, vpn + 1)
    while True:
        await do(op)
        pte = mm.ptes.get(vpn)
        if pte is not None and pte.write and (pte.present or pte.state is PteState.SPECIAL):
            if not pte.dirty:
                n = 1 << pte.order
                first = pte.advance((vpn & -n) - vpn)
                mm.ptes.set(vpn & -n, (vpn & -n) + n, first._replace(dirty=True))
            mm.host.set_content(pte.pfn, tag)
            probe("page.store", mm, vpn, tag)
            return 0
        ret = await _user_fault(mm, vpn, write=True)
        if ret:
            return ret


async def _user_fault(mm: Mm, vpn: int, *, write: bool) -> int:
    ret = await mmap_read_lock_killable(mm)
    if ret:
        return ret
    vma = mm.vmas.get(vpn)
    fault = VmFault.SIGSEGV
    if vma is not None and (vma.writable if write else vma.readable):
        fault = await handle_mm_fault(mm, vma, vpn, vpn + 1, write=write)
    await mmap_read_unlock(mm)
    return fault.to_errno() if fault is not VmFault.SIGSEGV else -EFAULT
