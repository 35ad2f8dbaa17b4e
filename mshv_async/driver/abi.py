"""Numbers and arguments of the driver's user interface, and its fixed sizes (spec.md 4.2, 8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HV_HYP_PAGE_SHIFT: Final = 12
HV_HYP_PAGE_SIZE: Final = 1 << HV_HYP_PAGE_SHIFT
HV_LARGE_PAGE_SHIFT: Final = 9
"""From 4 KiB pages to 2 MiB pages."""

PMD_ORDER: Final = 9
PUD_ORDER: Final = 18
"""Folio orders of 2 MiB and 1 GiB."""

MSHV_MAP_FAULT_IN_PAGES: Final = 512
"""Pages that one intercept faults in at most."""

MSHV_PIN_PAGES_BATCH_SIZE: Final = 65_536
MSHV_MAX_VPS: Final = 256
HV_MAP_GPA_BATCH_SIZE: Final = 509
HV_UNMAP_GPA_BATCH_SIZE: Final = 512
HV_DEPOSIT_MAX: Final = 511
HV_WITHDRAW_BATCH_SIZE: Final = 512
HV_MAP_GPA_DEPOSIT_PAGES: Final = 256
HV_INIT_PARTITION_DEPOSIT_PAGES: Final = 208
HV_CREATE_VP_DEPOSIT_PAGES: Final = 90

HV_CONTIGUOUS_DEPOSIT_PAGES: Final = 8

MAP_NO_DEPOSIT: Final = 1 << 32
"""Map without depositing: on a shortage say which (``needs_memory``). A flag of the driver's own,
above the 32 that a hypercall has; no version knows it, patches use it."""

NEEDS_MEMORY: Final = 4096
"""A result of -(4096 + status) is no errno: the call stopped for want of memory."""

POINTER_BYTES: Final = 8
TASK_SIZE: Final = 1 << 47
"""End of the user's address space, bytes."""

# Flags of SET_GUEST_MEMORY.
MSHV_SET_MEM_WRITABLE: Final = 0x1
MSHV_SET_MEM_EXECUTABLE: Final = 0x2
MSHV_SET_MEM_UNMAP: Final = 0x4
MSHV_SET_MEM_FLAGS_MASK: Final = 0x7


class PartitionIoctl(IntEnum):
    """What can be asked of a partition's descriptor, by ioctl number."""

    INITIALIZE = 0x00
    CREATE_VP = 0x01
    SET_GUEST_MEMORY = 0x02


class VpIoctl(IntEnum):
    """What can be asked of a virtual processor's descriptor, by ioctl number."""

    RUN_VP = 0x00


@dataclass(frozen=True, slots=True)
class MshvUserMemRegion:
    """Argument of SET_GUEST_MEMORY: ``size`` and ``userspace_addr`` in bytes."""

    size: int
    guest_pfn: int
    userspace_addr: int
    flags: int = 0
    rsvd: int = 0
