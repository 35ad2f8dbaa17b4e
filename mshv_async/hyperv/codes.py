"""Numbers of the hypervisor's interface: call codes, statuses, flags, registers, message types.

Source: spec.md 8, and 5.6 for the translation of a status into an errno.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import Final

ROOT_PARTITION_ID: Final = 1

LARGE_PAGES: Final = 512
"""4 KiB pages of a 2 MiB page."""


class HvCall(IntEnum):
    """Hypercall codes."""

    CREATE_PARTITION = 0x40
    INITIALIZE = 0x41
    FINALIZE = 0x42
    DELETE = 0x43
    GET_PARTITION_PROPERTY = 0x44
    SET_PARTITION_PROPERTY = 0x45
    DEPOSIT = 0x48
    WITHDRAW = 0x49
    MAP_GPA = 0x4B
    UNMAP_GPA = 0x4C
    INSTALL_INTERCEPT = 0x4D
    CREATE_VP = 0x4E
    DELETE_VP = 0x4F
    GET_VP_REGISTERS = 0x50
    SET_VP_REGISTERS = 0x51
    TRANSLATE_VA = 0x52
    ASSERT_VIRTUAL_INTERRUPT = 0x94
    DISPATCH_VP = 0xC2
    GET_GPA_PAGES_ACCESS_STATES = 0xC9
    ACQUIRE_SPARSE_SPA_HOST_ACCESS = 0xD7
    RELEASE_SPARSE_SPA_HOST_ACCESS = 0xD8
    MAP_VP_STATE_PAGE = 0xE1
    UNMAP_VP_STATE_PAGE = 0xE2


CALL_LABELS: Final = {code: f"hypercall.{code.name.lower()}" for code in HvCall}
"""What a call is called in traces and injections; its elements add ``.rep``."""


class HvStatus(IntEnum):
    """Result of a hypercall."""

    SUCCESS = 0x00
    INVALID_HYPERCALL_CODE = 0x02
    INVALID_HYPERCALL_INPUT = 0x03
    INVALID_ALIGNMENT = 0x04
    INVALID_PARAMETER = 0x05
    ACCESS_DENIED = 0x06
    INVALID_PARTITION_STATE = 0x07
    OPERATION_DENIED = 0x08
    UNKNOWN_PROPERTY = 0x09
    PROPERTY_OUT_OF_RANGE = 0x0A
    INSUFFICIENT_MEMORY = 0x0B
    INVALID_PARTITION_ID = 0x0D
    INVALID_VP_INDEX = 0x0E
    NOT_FOUND = 0x10
    INVALID_PORT = 0x11
    INVALID_CONNECTION = 0x12
    INSUFFICIENT_BUFFERS = 0x13
    NOT_ACKNOWLEDGED = 0x14
    INVALID_VP_STATE = 0x15
    NO_RESOURCES = 0x1D
    PROCESSOR_FEATURE_NOT_SUPPORTED = 0x20
    INVALID_LP_INDEX = 0x41
    INVALID_REGISTER_VALUE = 0x50
    OPERATION_FAILED = 0x71
    INSUFFICIENT_ROOT_MEMORY = 0x73
    INSUFFICIENT_CONTIGUOUS_MEMORY = 0x75
    TIMEOUT = 0x78
    CALL_PENDING = 0x79
    INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY = 0x83
    VTL_ALREADY_ENABLED = 0x86


_ERRNO: Final = {
    HvStatus.SUCCESS: 0,
    HvStatus.INVALID_HYPERCALL_CODE: errno.EINVAL,
    HvStatus.INVALID_HYPERCALL_INPUT: errno.EINVAL,
    HvStatus.INVALID_ALIGNMENT: errno.EINVAL,
    HvStatus.INVALID_PARAMETER: errno.EINVAL,
    HvStatus.ACCESS_DENIED: errno.EACCES,
    HvStatus.INVALID_PARTITION_STATE: errno.EINVAL,
    HvStatus.OPERATION_DENIED: errno.EACCES,
    HvStatus.PROPERTY_OUT_OF_RANGE: errno.ERANGE,
    HvStatus.INSUFFICIENT_MEMORY: errno.ENOMEM,
    HvStatus.INVALID_PARTITION_ID: errno.EINVAL,
    HvStatus.INVALID_VP_INDEX: errno.EINVAL,
    HvStatus.INVALID_PORT: errno.EINVAL,
    HvStatus.INVALID_CONNECTION: errno.EINVAL,
    HvStatus.INSUFFICIENT_BUFFERS: errno.ENOBUFS,
    HvStatus.NOT_ACKNOWLEDGED: errno.EBUSY,
    HvStatus.INVALID_VP_STATE: errno.EINVAL,
    HvStatus.INVALID_LP_INDEX: errno.EINVAL,
    HvStatus.INVALID_REGISTER_VALUE: errno.EINVAL,
    HvStatus.INSUFFICIENT_ROOT_MEMORY: errno.ENOMEM,
    HvStatus.INSUFFICIENT_CONTIGUOUS_MEMORY: errno.ENOMEM,
    HvStatus.TIMEOUT: errno.ETIMEDOUT,
    HvStatus.INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY: errno.ENOMEM,
    HvStatus.VTL_ALREADY_ENABLED: errno.EBUSY,
}

_ERRNO_2024: Final = frozenset({errno.EINVAL, errno.ENOMEM})
_EIO_2024: Final = frozenset(
    {HvStatus.INVALID_ALIGNMENT, HvStatus.INVALID_PARTITION_STATE, HvStatus.INVALID_VP_STATE}
)


def status_to_errno(status: HvStatus) -> int:
    """Return 0 or the negative errno that Linux makes of a status (since October 2025)."""
    return -_ERRNO.get(status, errno.EIO)


def status_to_errno_2024(status: HvStatus) -> int:
    """Return 0 or the negative errno of the older table: all but the plainest are ``-EIO``."""
    code = -status_to_errno(status)
    plain = code in _ERRNO_2024 and status not in _EIO_2024
    return -code if code == 0 or plain else -errno.EIO


# Flags of MAP_GPA and UNMAP_GPA (spec.md 5.4).
MAP_READABLE: Final = 0x1
MAP_WRITABLE: Final = 0x2
MAP_KERNEL_EXECUTABLE: Final = 0x4
MAP_USER_EXECUTABLE: Final = 0x8
MAP_EXECUTABLE: Final = 0xC
MAP_PERMISSIONS_MASK: Final = 0xF
MAP_ADJUSTABLE: Final = 0x8000
MAP_NO_ACCESS: Final = 0x10000
MAP_NOT_CACHED: Final = 0x200000
MAP_LARGE_PAGE: Final = 0x80000000
MAP_FLAGS_MASK: Final = (
    MAP_PERMISSIONS_MASK | MAP_ADJUSTABLE | MAP_NO_ACCESS | MAP_NOT_CACHED | MAP_LARGE_PAGE
)
UNMAP_LARGE_PAGE: Final = 0x2

# Elements that fit into one input page (spec.md 5.6).
MAP_GPA_BATCH: Final = 509
UNMAP_GPA_BATCH: Final = 512
DEPOSIT_BATCH: Final = 511
WITHDRAW_BATCH: Final = 512
GET_VP_REGISTERS_BATCH: Final = 256
SET_VP_REGISTERS_BATCH: Final = 127

# Flags of DISPATCH_VP.
DISPATCH_CLEAR_INTERCEPT_SUSPEND: Final = 0x1
DISPATCH_SCAN_INTERRUPT_INJECTION: Final = 0x40


class DispatchState(IntEnum):
    """State in which DISPATCH_VP leaves the virtual processor."""

    NONE = 0
    BLOCKED = 1
    READY = 2


class DispatchEvent(IntEnum):
    """Why DISPATCH_VP returned."""

    NONE = 0
    SUSPEND = 1
    INTERCEPT = 2


class SchedulerType(IntEnum):
    """Who schedules virtual processors; all but ``ROOT`` are the hypervisor."""

    CLASSIC_LP = 1
    LP_SMT = 2
    CORE_SMT = 3
    ROOT = 4


class HvRegister(IntEnum):
    """Names of the virtual processor registers that the driver uses."""

    EXPLICIT_SUSPEND = 0x0
    INTERCEPT_SUSPEND = 0x1
    DISPATCH_SUSPEND = 0x3
    VP_ROOT_SIGNAL_COUNT = 0x90014


class HvMessageType(IntEnum):
    """Types of hypervisor messages."""

    NONE = 0
    UNMAPPED_GPA = 0x80000000
    GPA_INTERCEPT = 0x80000001
    UNACCEPTED_GPA = 0x80000003
    GPA_ATTRIBUTE = 0x80000004
    INVALID_VP_REGISTER = 0x80000020
    UNRECOVERABLE_EXCEPTION = 0x80000021
    OPAQUE_INTERCEPT = 0x8000003F
    HYPERCALL_INTERCEPT = 0x80000050
    SINT_INTERCEPT = 0x80000061
    SINT_DELIVERABLE = 0x80000062
    ASYNC_CALL_COMPLETION = 0x80000070
    SCHEDULER_VP_SIGNAL_BITSET = 0x80000100
    SCHEDULER_VP_SIGNAL_PAIR = 0x80000101
    IO_PORT = 0x80010000
    MSR = 0x80010001
    CPUID = 0x80010002
    EXCEPTION = 0x80010003
    APIC_EOI = 0x80010004
    HALT = 0x80010007
    SIPI = 0x80010009


class Access(IntEnum):
    """Kind of a guest access, with the numbers of the intercept message (spec.md 5.5)."""

    READ = 0
    WRITE = 1
    EXECUTE = 2


class PartitionState(IntEnum):
    """Life of a partition (spec.md 5.2)."""

    UNINITIALIZED = 0
    ACTIVE = 1
    FINALIZING = 2
    FINALIZED = 3
    DELETED = 4
