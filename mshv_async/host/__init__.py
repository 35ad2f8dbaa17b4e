"""The host: a model of Linux memory management: anonymous memory, huge pages, device memory.

Frames with their counts, address spaces with their locks, the interval notifier, HMM, and those
who take memory back: system calls, reclaim, the OOM reaper (spec.md 1 to 3).
"""

from mshv_async.host.access import store, touch
from mshv_async.host.collapse import collapse_huge_page
from mshv_async.host.exit import exit_mmap, mmput
from mshv_async.host.fault import handle_mm_fault
from mshv_async.host.folio import Folio
from mshv_async.host.frame import PIN_BIAS, FrameState, Mapping
from mshv_async.host.frames import HostMemory
from mshv_async.host.hmm import (
    HMM_PFN_ERROR,
    HMM_PFN_REQ_FAULT,
    HMM_PFN_REQ_WRITE,
    HMM_PFN_VALID,
    HMM_PFN_WRITE,
    HmmPfn,
    HmmPfns,
    HmmRange,
    hmm_range_fault,
)
from mshv_async.host.madvise import madvise
from mshv_async.host.mm import (
    Mm,
    find_vma,
    mmap_read_lock,
    mmap_read_lock_killable,
    mmap_read_trylock,
    mmap_read_unlock,
    mmap_write_downgrade,
    mmap_write_lock,
    mmap_write_lock_killable,
    mmap_write_unlock,
    mmdrop,
    mmget_not_zero,
    mmgrab,
    vma_lookup,
)
from mshv_async.host.mmap import mmap_fixed, mprotect, munmap
from mshv_async.host.notifier import (
    MmuIntervalNotifier,
    MmuNotifierRange,
    NotifierEvent,
    NotifierSubscriptions,
    invalidate_range_end,
    invalidate_range_start,
    mmu_interval_check_retry,
    mmu_interval_read_begin,
    mmu_interval_read_retry,
    mmu_interval_set_seq,
    mmu_notifier_range_blockable,
)
from mshv_async.host.oom import oom_kill, oom_reap, oom_reaper_body
from mshv_async.host.page import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, PMD_PAGES, PUD_ORDER, ULONG_MAX
from mshv_async.host.pins import pin_user_pages_fast, unpin_user_pages
from mshv_async.host.pte import ZERO_PFN, Pte, PteState
from mshv_async.host.reclaim import reclaim_pages, reclaim_some
from mshv_async.host.register import (
    insert_direct,
    mmu_interval_notifier_insert,
    mmu_interval_notifier_insert_locked,
    mmu_interval_notifier_remove,
)
from mshv_async.host.vma import Vma
from mshv_async.host.vmfault import VmFault
from mshv_async.host.watermarks import kswapd_body

__all__ = [
    "HMM_PFN_ERROR",
    "HMM_PFN_REQ_FAULT",
    "HMM_PFN_REQ_WRITE",
    "HMM_PFN_VALID",
    "HMM_PFN_WRITE",
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "PIN_BIAS",
    "PMD_ORDER",
    "PMD_PAGES",
    "PUD_ORDER",
    "ULONG_MAX",
    "ZERO_PFN",
    "Folio",
    "FrameState",
    "HmmPfn",
    "HmmPfns",
    "HmmRange",
    "HostMemory",
    "Mapping",
    "Mm",
    "MmuIntervalNotifier",
    "MmuNotifierRange",
    "NotifierEvent",
    "NotifierSubscriptions",
    "Pte",
    "PteState",
    "VmFault",
    "Vma",
    "collapse_huge_page",
    "exit_mmap",
    "find_vma",
    "handle_mm_fault",
    "hmm_range_fault",
    "insert_direct",
    "invalidate_range_end",
    "invalidate_range_start",
    "kswapd_body",
    "madvise",
    "mmap_fixed",
    "mmap_read_lock",
    "mmap_read_lock_killable",
    "mmap_read_trylock",
    "mmap_read_unlock",
    "mmap_write_downgrade",
    "mmap_write_lock",
    "mmap_write_lock_killable",
    "mmap_write_unlock",
    "mmdrop",
    "mmget_not_zero",
    "mmgrab",
    "mmput",
    "mmu_interval_check_retry",
    "mmu_interval_notifier_insert",
    "mmu_interval_notifier_insert_locked",
    "mmu_interval_notifier_remove",
    "mmu_interval_read_begin",
    "mmu_interval_read_retry",
    "mmu_interval_set_seq",
    "mmu_notifier_range_blockable",
    "mprotect",
    "munmap",
    "oom_kill",
    "oom_reap",
    "oom_reaper_body",
    "pin_user_pages_fast",
    "reclaim_pages",
    "reclaim_some",
    "store",
    "touch",
    "unpin_user_pages",
    "vma_lookup",
]
