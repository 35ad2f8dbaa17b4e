"""Messages from the hypervisor to the root partition (spec.md 5.5).

An intercept message stands in the virtual processor's message page until the next one. A signal
message travels to the root's interrupt handler and only names a virtual processor.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from mshv_async.hyperv.codes import Access, HvMessageType

PAGE_SHIFT = 12


MESSAGE_BYTES: Final = 256
_MEMORY_PAYLOAD: Final = 80
_OTHER_PAYLOAD: Final = 40
"""Payload of an intercept that is not about memory: what all intercepts begin with."""

_LAYOUT: Final = struct.Struct("<IBB2xQ IBBH16sQQ IBBBxQQ16s")
"""Header at 0, payload at 16, offsets inside it as in the table of spec.md 5.5."""


class InterceptMessage(NamedTuple):
    """Why a virtual processor stopped.

    ``access`` means something for memory intercepts only. ``gva`` and ``gpa`` are byte addresses
    (``gfn = gpa >> 12``). ``info``: bit 0 GVA valid, 1 GVA to GPA valid, 2 hypercall output
    pending, 3 TLB locked. ``sender``: the partition's id. ``cs``: the code segment, 16 bytes.
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
    sender: int = 0
    flags: int = 0
    cr8: int = 0
    cs: bytes = bytes(16)
    tpr: int = 0

    @property
    def gfn(self) -> int:
        """Guest page number of a memory intercept."""
        return self.gpa >> PAGE_SHIFT

    @property
    def is_memory(self) -> bool:
        """Say whether a memory access was refused, for want of an entry or of a right."""
        return self.type in (HvMessageType.GPA_INTERCEPT, HvMessageType.UNMAPPED_GPA)

    @property
    def payload_bytes(self) -> int:
        """Bytes of the payload that mean something."""
        if self.type is HvMessageType.NONE:
            return 0
        return _MEMORY_PAYLOAD if self.is_memory else _OTHER_PAYLOAD

    def to_bytes(self) -> bytes:
        """Return the 256 bytes of the message page; ``ValueError`` for a field out of range."""
        instruction = self.instruction_bytes
        if len(instruction) > 16 or len(self.cs) != 16:
            raise ValueError("an instruction has at most 16 bytes, a segment exactly 16")
        if not 0 <= self.instruction_length < 16 or not 0 <= self.cr8 < 16:
            raise ValueError("instruction length and cr8 have 4 bits each")
        try:
            head = _LAYOUT.pack(
                self.type, self.payload_bytes, self.flags, self.sender, self.vp_index,
                self.instruction_length | self.cr8 << 4, self.access, self.execution_state,
                self.cs, self.rip, self.rflags, self.cache_type, len(instruction), self.info,
                self.tpr, self.gva, self.gpa, instruction,
            )  # fmt: skip
        except struct.error as error:
            raise ValueError(f"a field does not fit its place: {error}") from None
        return head.ljust(MESSAGE_BYTES, b"\0")

    @classmethod
    def from_bytes(cls, data: bytes) -> InterceptMessage:
        """Read a message page; ``ValueError`` if it is not one."""
        if len(data) != MESSAGE_BYTES:
            raise ValueError(f"a message has {MESSAGE_BYTES} bytes, not {len(data)}")
        (
            kind, _, flags, sender, vp_index, lengths, access, execution_state, cs, rip, rflags,
            cache_type, count, info, tpr, gva, gpa, instruction,
        ) = _LAYOUT.unpack_from(data)  # fmt: skip
        if count > len(instruction):
            raise ValueError(f"{count} instruction bytes, more than there is room for")
        return cls(
            HvMessageType(kind), vp_index, Access(access), gpa, gva, info, lengths & 0xF,
            execution_state, rip, rflags, cache_type, instruction[:count], sender, flags,
            lengths >> 4, cs, tpr,
        )  # fmt: skip


NO_MESSAGE = InterceptMessage(HvMessageType.NONE)


class SignalMessage(NamedTuple):
    """Tells the root's interrupt handler that a virtual processor has something for it.

    ``sender`` is the partition's id. OPAQUE_INTERCEPT: an intercept message waits in its message
    page. SCHEDULER_VP_SIGNAL_PAIR: a virtual processor that blocked may be dispatched again.
    """

    type: HvMessageType
    sender: int
    vp_index: int
