"""What a patch says of itself: its name, what it is for, and what it can be stacked on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mshv_async.driver.profiles.v6 import V6

FACTORIES = frozenset({"new_region", "new_partition"})
"""Factories: they build on the one below, so several patches may add fields."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The class that a patch is on some profiles.

    ``after``: the earlier patches of the stack whose functions this one replaces as well, and
    whose changes it therefore contains.
    """

    cls: type[V6]
    on: tuple[str, ...]
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Patch:
    """One named change. ``extends`` names methods that call the one below instead of replacing it:
    such a method may come after any other, but none may come after it.
    """  # noqa: D205 - the two sentences belong together

    name: str
    summary: str
    bugs: tuple[str, ...]
    variants: tuple[Variant, ...]
    extends: tuple[str, ...] = ()

    @property
    def applies_to(self) -> tuple[str, ...]:
        """The profiles that it can be put on, in the order in which the variants name them."""
        named = [profile for variant in self.variants for profile in variant.on]
        return tuple(dict.fromkeys(named))

    @property
    def after(self) -> tuple[str, ...]:
        """The patches that it may follow on the same function."""
        named = [earlier for variant in self.variants for earlier in variant.after]
        return tuple(dict.fromkeys(named))
