"""What lies between two drivers: the profiles of the chain, and the patches that backport a change.

Each profile builds on the one before. A patch for the older of two neighbours that is not for the
newer one holds a change of the newer one: it is contained there, or has no place there any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver.profiles import PROFILES
from mshv_async.driver.select import PATCHES, DriverError, DriverSpec, resolve_driver

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def profile_path(start: str, end: str) -> list[str]:
    """Return the profiles from one to another along the chain, both included, either way."""
    names = list(PROFILES)
    a, b = names.index(start), names.index(end)
    return names[a : b + 1] if a <= b else names[b : a + 1][::-1]


def backports(older: str, newer: str) -> list[str]:
    """Return the patches for ``older`` that hold a change of ``newer``."""
    return [
        name
        for name, patch in PATCHES.items()
        if older in patch.applies_to and newer not in patch.applies_to
    ]


def mends(older: str, newer: str) -> list[str]:
    """Return the patches for ``newer`` only: they mend what it brought."""
    return backports(newer, older)


def applicable(base: str, patches: Sequence[str]) -> list[str]:
    """Return those of the patches that are for a profile, in their order."""
    return [name for name in patches if base in PATCHES[name].applies_to]


def stacked(base: str, patches: Collection[str], *orders: Sequence[str]) -> DriverSpec | None:
    """Return the profile with the patches on it; None where they do not go together.

    They are stacked as the first of ``orders`` that works has them, at last as the catalogue has.
    """
    for order in (*orders, list(PATCHES)):
        names = [name for name in order if name in patches]
        if len(names) != len(patches):
            continue
        try:
            return resolve_driver("+".join([base, *names]))
        except DriverError:
            continue
    return None
