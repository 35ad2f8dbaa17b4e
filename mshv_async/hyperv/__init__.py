"""The hypervisor's side: partitions, SLAT, memory pool, hypercalls, VP dispatch, intercepts.

``await hv.call(...)`` issues a hypercall on the current thread. It knows nothing of the host's
memory management: host pages are numbers here. Source: spec.md 5 and 8.
"""

from mshv_async.hyperv.codes import (
    DEPOSIT_BATCH,
    DISPATCH_CLEAR_INTERCEPT_SUSPEND,
    DISPATCH_SCAN_INTERRUPT_INJECTION,
    GET_VP_REGISTERS_BATCH,
    LARGE_PAGES,
    MAP_ADJUSTABLE,
    MAP_EXECUTABLE,
    MAP_GPA_BATCH,
    MAP_KERNEL_EXECUTABLE,
    MAP_LARGE_PAGE,
    MAP_NO_ACCESS,
    MAP_NOT_CACHED,
    MAP_PERMISSIONS_MASK,
    MAP_READABLE,
    MAP_USER_EXECUTABLE,
    MAP_WRITABLE,
    ROOT_PARTITION_ID,
    SET_VP_REGISTERS_BATCH,
    UNMAP_GPA_BATCH,
    UNMAP_LARGE_PAGE,
    WITHDRAW_BATCH,
    Access,
    DispatchEvent,
    DispatchState,
    HvCall,
    HvMessageType,
    HvRegister,
    HvStatus,
    PartitionState,
    SchedulerType,
    status_to_errno,
    status_to_errno_2024,
)
from mshv_async.hyperv.engine import HypercallEngine
from mshv_async.hyperv.hypervisor import Hypervisor, RootMemory
from mshv_async.hyperv.interrupt import InterruptHandler
from mshv_async.hyperv.message import (
    MESSAGE_BYTES,
    NO_MESSAGE,
    InterceptMessage,
    SignalMessage,
)
from mshv_async.hyperv.partition import HvPartition, accepts
from mshv_async.hyperv.pool import PageRun, Pool, PoolCosts
from mshv_async.hyperv.request import HvRequest, HvResult, RegisterValue
from mshv_async.hyperv.slat import MMIO, NO_ACCESS_ENTRY, NOACCESS, RAM, SlatEntry, entry_of
from mshv_async.hyperv.slat_rules import SlatRules
from mshv_async.hyperv.vp import VirtualProcessor
from mshv_async.hyperv.vpcalls import MAX_VPS

__all__ = [
    "DEPOSIT_BATCH",
    "DISPATCH_CLEAR_INTERCEPT_SUSPEND",
    "DISPATCH_SCAN_INTERRUPT_INJECTION",
    "GET_VP_REGISTERS_BATCH",
    "LARGE_PAGES",
    "MAP_ADJUSTABLE",
    "MAP_EXECUTABLE",
    "MAP_GPA_BATCH",
    "MAP_KERNEL_EXECUTABLE",
    "MAP_LARGE_PAGE",
    "MAP_NOT_CACHED",
    "MAP_NO_ACCESS",
    "MAP_PERMISSIONS_MASK",
    "MAP_READABLE",
    "MAP_USER_EXECUTABLE",
    "MAP_WRITABLE",
    "MAX_VPS",
    "MESSAGE_BYTES",
    "MMIO",
    "NOACCESS",
    "NO_ACCESS_ENTRY",
    "NO_MESSAGE",
    "RAM",
    "ROOT_PARTITION_ID",
    "SET_VP_REGISTERS_BATCH",
    "UNMAP_GPA_BATCH",
    "UNMAP_LARGE_PAGE",
    "WITHDRAW_BATCH",
    "Access",
    "DispatchEvent",
    "DispatchState",
    "HvCall",
    "HvMessageType",
    "HvPartition",
    "HvRegister",
    "HvRequest",
    "HvResult",
    "HvStatus",
    "HypercallEngine",
    "Hypervisor",
    "InterceptMessage",
    "InterruptHandler",
    "PageRun",
    "PartitionState",
    "Pool",
    "PoolCosts",
    "RegisterValue",
    "RootMemory",
    "SchedulerType",
    "SignalMessage",
    "SlatEntry",
    "SlatRules",
    "VirtualProcessor",
    "accepts",
    "entry_of",
    "status_to_errno",
    "status_to_errno_2024",
]
