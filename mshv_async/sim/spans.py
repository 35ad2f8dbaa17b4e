"""Ranges as users read them."""

from __future__ import annotations


def span(lo: int, hi: int) -> str:
    """Render half-open ``[lo, hi)`` with both ends inclusive: ``0x200-0x201``, or ``0x200``."""
    return f"{lo:#x}" if hi - lo <= 1 else f"{lo:#x}-{hi - 1:#x}"
