"""Numbers and sizes as users write them in scenario files and programs."""

from __future__ import annotations

import re
from typing import Final

from mshv_async.scenario.errors import Misfit, quoted, show

PAGE_SIZE: Final = 4096
"""Bytes of a guest or host page (spec.md 0)."""

GFN_LIMIT: Final = 1 << 34
"""First guest page number beyond the guest: guest physical addresses have 46 bits."""

GFN_ALLOWED: Final = f"a guest page number from 0 to {GFN_LIMIT - 1:#x} (46-bit guest addresses)"

UADDR_MIN: Final = 1 << 16
UADDR_LIMIT: Final = 1 << 47
"""User addresses of the VMM's process: above Linux's minimum, below the kernel's half."""

UADDR_ALLOWED: Final = (
    f"a user address, a multiple of {PAGE_SIZE}, from {UADDR_MIN:#x} to {UADDR_LIMIT - 1:#x}"
)

SIZE_ALLOWED: Final = 'bytes, or a number with KiB, MiB, GiB or TiB, such as "64MiB"'

_UNITS: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE: Final = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+) ?([A-Za-z]*)")
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")
_DIGITS_MAX: Final = 40


def parse_number(text: str, allowed: str = "a whole number, decimal or 0x…") -> int:
    """Return a decimal or hexadecimal number; ``Misfit`` for anything else."""
    if len(text) > _DIGITS_MAX or not _NUMBER.fullmatch(text):
        raise Misfit(quoted(text), allowed)
    return int(text, 16 if text[:2] in {"0x", "0X"} else 10)


def parse_size(value: object, allowed: str = SIZE_ALLOWED) -> int:
    """Return a size in bytes, given as bytes or as text with a unit; ``Misfit`` if it is none."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and len(value) <= _DIGITS_MAX:
        match = _SIZE.fullmatch(value)
        if match and match[2] in _UNITS:
            return parse_number(match[1]) * _UNITS[match[2]]
    raise Misfit(show(value), allowed)


def parse_gfn(text: str) -> int:
    """Return a guest page number inside the guest's address space."""
    gfn = parse_number(text, GFN_ALLOWED)
    if gfn >= GFN_LIMIT:
        raise Misfit(quoted(text), GFN_ALLOWED)
    return gfn


def parse_uaddr(text: str) -> int:
    """Return a page-aligned address of the VMM's process."""
    return check_uaddr(parse_number(text, UADDR_ALLOWED))


def check_uaddr(uaddr: int) -> int:
    """Return the address if it is page aligned and a user address; ``Misfit`` otherwise."""
    if uaddr % PAGE_SIZE or not UADDR_MIN <= uaddr < UADDR_LIMIT:
        raise Misfit(f"{uaddr:#x}", UADDR_ALLOWED)
    return uaddr
