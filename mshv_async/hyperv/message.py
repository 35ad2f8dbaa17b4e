"""Messages from the hypervisor to the root partition (spec.md 5.5).

An intercept message stands in the virtual processor's message page until the next one. A signal
message travels to the root's interrupt handler and only names a virtual processor.
"""

from __future__ import annotations

from typing import NamedTuple

from mshv_async.hyperv.codes import Access, HvMessageType

PAGE_SHIFT = 12


class InterceptMessage(NamedTuple):
    """Why a virtual processor stopped.

    ``access`` means something for memory intercepts only. ``gva`` and ``gpa`` are byte addresses
    (``gfn = gpa >> 12``). ``info``: bit 0 GVA valid, 1 GVA to GPA valid, 2 hypercall output
    pending, 3 TLB locked. What the header and the segment fields hold is left out.
    """

    type: HvMessageType
    vp_index: int = 0
    access: Access = Access.READ
    gpa: int = 0
    gva: int = 0
    info: int = 0
    instruction_length: int = 0
    execution_state: int = 0
    rip: int = 0
    rflags: int = 0
    cache_type: int = 0
    instruction_bytes: bytes = b""

    @property
    def gfn(self) -> int:
        """Guest page number of a memory intercept."""
        return self.gpa >> PAGE_SHIFT

    @property
    def is_memory(self) -> bool:
        """Say whether a memory access was refused, for want of an entry or of a right."""
        return self.type in (HvMessageType.GPA_INTERCEPT, HvMessageType.UNMAPPED_GPA)


NO_MESSAGE = InterceptMessage(HvMessageType.NONE)


class SignalMessage(NamedTuple):
    """Tells the root's interrupt handler that a virtual processor has something for it.

    ``sender`` is the partition's id. OPAQUE_INTERCEPT: an intercept message waits in its message
    page. SCHEDULER_VP_SIGNAL_PAIR: a virtual processor that blocked may be dispatched again.
    """

    type: HvMessageType
    sender: int
    vp_index: int
