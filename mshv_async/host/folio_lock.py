"""The lock of a folio; it exists only while somebody looks at the folio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim import Mutex

if TYPE_CHECKING:
    from mshv_async.host.frames import HostMemory


async def folio_trylock(host: HostMemory, pfn: int) -> Mutex | None:
    """Lock the folio that begins at ``pfn``; None: somebody has it."""
    folio = host.folio_locks.get(pfn) or Mutex(f"folio@{pfn:#x}", "folio_lock")
    host.folio_locks.set(pfn, pfn + 1, folio)
    if not await folio.trylock():
        return None
    known = host.folio_locks.get(pfn)
    if known is not None and known is not folio:
        # Its last owner dropped it before we had it, and the next one made another.
        await folio.unlock()
        return None
    host.folio_locks.set(pfn, pfn + 1, folio)
    return folio


async def folio_unlock(host: HostMemory, pfn: int, folio: Mutex) -> None:
    """Unlock a folio."""
    await folio.unlock()
    host.folio_locks.clear(pfn, pfn + 1)


def any_locked(host: HostMemory, lo: int, hi: int) -> bool:
    """Whether somebody has the lock of a folio that begins in ``[lo, hi)``."""
    return any(lock.owner is not None for _, _, lock in host.folio_locks.runs(lo, hi))
