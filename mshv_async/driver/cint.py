"""Unsigned 64-bit arithmetic as in C: results wrap at 2^64."""

from __future__ import annotations

from typing import Final

U32_MAX: Final = (1 << 32) - 1
U64_MAX: Final = (1 << 64) - 1


def u64_add(a: int, b: int) -> int:
    """Return ``a + b`` modulo 2^64."""
    return (a + b) & U64_MAX


def u64_sub(a: int, b: int) -> int:
    """Return ``a - b`` modulo 2^64: below zero it wraps to the top."""
    return (a - b) & U64_MAX


def u64_shl(a: int, shift: int) -> int:
    """Return ``a << shift`` modulo 2^64; bits shifted out are lost."""
    return (a << shift) & U64_MAX


def align_down(a: int, size: int) -> int:
    """Return ``a`` rounded down to a multiple of ``size``, a power of two."""
    return a & ~(size - 1) & U64_MAX


def pmd_aligned(count: int) -> bool:
    """Say whether a page number or count is a multiple of 512 (2 MiB)."""
    return not count & 511
