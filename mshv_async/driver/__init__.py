"""The mshv driver: the only code that talks to both the host and the hypervisor.

``V6`` is the driver as first reviewed; later profiles and named patches override what they change.
A driver of your own derives from one of them and needs nothing but what is named here: the
kernel's functions, the hypervisor's flags, errno names (positive, so ``return -EBUSY``), ``step``
for a point between two statements, ``UNINIT`` for a local without a value.

Modules, from the ioctl downwards: ``partition``, ``run_vp``, ``memory``, ``fault``, ``region``,
``invalidate``, ``remap``, ``hypercalls``; the objects are ``structures``, the numbers ``abi``.
"""

from errno import (
    E2BIG,
    EAGAIN,
    EBUSY,
    EEXIST,
    EFAULT,
    EINTR,
    EINVAL,
    EIO,
    ENODEV,
    ENOENT,
    ENOMEM,
    ENOTTY,
    EPERM,
)

from mshv_async.driver.abi import (
    HV_HYP_PAGE_SHIFT,
    HV_HYP_PAGE_SIZE,
    MSHV_MAP_FAULT_IN_PAGES,
    MSHV_SET_MEM_EXECUTABLE,
    MSHV_SET_MEM_UNMAP,
    MSHV_SET_MEM_WRITABLE,
    MshvUserMemRegion,
    PartitionIoctl,
    VpIoctl,
)
from mshv_async.driver.cint import align_down, pmd_aligned, u64_add, u64_shl, u64_sub
from mshv_async.driver.hypercalls import PageWindow
from mshv_async.driver.invalidate import clamp_to_region, invalidation_failed, region_of
from mshv_async.driver.profiles import PROFILES, V6, V7, V9, Fix1
from mshv_async.driver.profiles.v7 import RegionType
from mshv_async.driver.region import access_permitted, fill_region, holds_gfn
from mshv_async.driver.select import (
    DriverError,
    DriverSpec,
    list_drivers,
    list_patches,
    resolve_driver,
)
from mshv_async.driver.structures import (
    MshvMemRegion,
    MshvPartition,
    MshvVp,
    Page,
    RegionList,
    next_region,
)
from mshv_async.host import (
    HMM_PFN_ERROR,
    HMM_PFN_REQ_FAULT,
    HMM_PFN_REQ_WRITE,
    HMM_PFN_VALID,
    HMM_PFN_WRITE,
    HmmPfns,
    HmmRange,
    MmuIntervalNotifier,
    MmuNotifierRange,
    hmm_range_fault,
    mmap_read_lock,
    mmap_read_lock_killable,
    mmap_read_unlock,
    mmget_not_zero,
    mmput,
    mmu_interval_check_retry,
    mmu_interval_notifier_insert,
    mmu_interval_notifier_remove,
    mmu_interval_read_begin,
    mmu_interval_read_retry,
    mmu_interval_set_seq,
    mmu_notifier_range_blockable,
    vma_lookup,
)
from mshv_async.hyperv import MAP_ADJUSTABLE as HV_MAP_GPA_ADJUSTABLE
from mshv_async.hyperv import MAP_EXECUTABLE as HV_MAP_GPA_EXECUTABLE
from mshv_async.hyperv import MAP_LARGE_PAGE as HV_MAP_GPA_LARGE_PAGE
from mshv_async.hyperv import MAP_NO_ACCESS as HV_MAP_GPA_NO_ACCESS
from mshv_async.hyperv import MAP_READABLE as HV_MAP_GPA_READABLE
from mshv_async.hyperv import MAP_WRITABLE as HV_MAP_GPA_WRITABLE
from mshv_async.hyperv import UNMAP_LARGE_PAGE as HV_UNMAP_GPA_LARGE_PAGE
from mshv_async.hyperv import HvCall, HvMessageType, HvResult, HvStatus, SchedulerType
from mshv_async.sim import (
    UNINIT,
    Seq,
    cond_resched,
    current,
    kfree,
    kzalloc,
    note,
    oops,
    step,
    warn,
)

__all__ = [
    "E2BIG",
    "EAGAIN",
    "EBUSY",
    "EEXIST",
    "EFAULT",
    "EINTR",
    "EINVAL",
    "EIO",
    "ENODEV",
    "ENOENT",
    "ENOMEM",
    "ENOTTY",
    "EPERM",
    "HMM_PFN_ERROR",
    "HMM_PFN_REQ_FAULT",
    "HMM_PFN_REQ_WRITE",
    "HMM_PFN_VALID",
    "HMM_PFN_WRITE",
    "HV_HYP_PAGE_SHIFT",
    "HV_HYP_PAGE_SIZE",
    "HV_MAP_GPA_ADJUSTABLE",
    "HV_MAP_GPA_EXECUTABLE",
    "HV_MAP_GPA_LARGE_PAGE",
    "HV_MAP_GPA_NO_ACCESS",
    "HV_MAP_GPA_READABLE",
    "HV_MAP_GPA_WRITABLE",
    "HV_UNMAP_GPA_LARGE_PAGE",
    "MSHV_MAP_FAULT_IN_PAGES",
    "MSHV_SET_MEM_EXECUTABLE",
    "MSHV_SET_MEM_UNMAP",
    "MSHV_SET_MEM_WRITABLE",
    "PROFILES",
    "UNINIT",
    "V6",
    "V7",
    "V9",
    "DriverError",
    "DriverSpec",
    "Fix1",
    "HmmPfns",
    "HmmRange",
    "HvCall",
    "HvMessageType",
    "HvResult",
    "HvStatus",
    "MmuIntervalNotifier",
    "MmuNotifierRange",
    "MshvMemRegion",
    "MshvPartition",
    "MshvUserMemRegion",
    "MshvVp",
    "Page",
    "PageWindow",
    "PartitionIoctl",
    "RegionList",
    "RegionType",
    "SchedulerType",
    "Seq",
    "VpIoctl",
    "access_permitted",
    "align_down",
    "clamp_to_region",
    "cond_resched",
    "current",
    "fill_region",
    "hmm_range_fault",
    "holds_gfn",
    "invalidation_failed",
    "kfree",
    "kzalloc",
    "list_drivers",
    "list_patches",
    "mmap_read_lock",
    "mmap_read_lock_killable",
    "mmap_read_unlock",
    "mmget_not_zero",
    "mmput",
    "mmu_interval_check_retry",
    "mmu_interval_notifier_insert",
    "mmu_interval_notifier_remove",
    "mmu_interval_read_begin",
    "mmu_interval_read_retry",
    "mmu_interval_set_seq",
    "mmu_notifier_range_blockable",
    "next_region",
    "note",
    "oops",
    "pmd_aligned",
    "region_of",
    "resolve_driver",
    "step",
    "u64_add",
    "u64_shl",
    "u64_sub",
    "vma_lookup",
    "warn",
]
