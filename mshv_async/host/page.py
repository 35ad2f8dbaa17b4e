"""Page size and the conversions between bytes and pages. Addresses are bytes; vpns are pages."""

from __future__ import annotations

from typing import Final

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
PMD_ORDER: Final = 9
PMD_PAGES: Final = 1 << PMD_ORDER
PUD_ORDER: Final = 18
ULONG_MAX: Final = (1 << 64) - 1


def pages_of(start: int, length: int) -> tuple[int, int]:
    """Return the half-open vpn range that the bytes from ``start`` touch."""
    return start >> PAGE_SHIFT, (start + length + PAGE_SIZE - 1) >> PAGE_SHIFT


def page_aligned(*addresses: int) -> bool:
    """Say whether all addresses or lengths are multiples of the page size."""
    return not any(address & (PAGE_SIZE - 1) for address in addresses)
