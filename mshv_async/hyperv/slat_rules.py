"""What no source establishes about the table: a switch for each open point of spec.md 5.4."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args, get_type_hints


class SlatRules(NamedTuple):
    """How the second-level page table behaves; the defaults are those that spec.md 5.4 proposes.

    ``split``: a 4 KiB change inside a 2 MiB entry splits it and costs a pool page, splits it
    for nothing, or is refused (OPERATION_DENIED).
    ``large_over_small``: a LARGE map over 4 KiB entries replaces them and frees their table, or
    is refused (OPERATION_DENIED).
    ``misaligned_large``: the status of a LARGE element whose GFN or SPA is not 2 MiB aligned.
    ``no_access_tables``: 4 KiB NO_ACCESS entries over unmapped space cost a table page for each
    2 MiB, as a mapping does; without, none until a mapping comes.
    ``unmap_large_over_small``: a LARGE unmap removes 4 KiB entries, or is refused.
    ``promotion``: 4 KiB mappings that fill 2 MiB with consecutive aligned pages and the same
    rights become one 2 MiB entry, which frees their table; NO_ACCESS is not promoted.
    ``adjustable``: the flag is stored only, or an entry mapped without it keeps its rights until
    it is unmapped (a map with other rights: OPERATION_DENIED).
    ``tlb``: old translations are dead when a hypercall returns, or (a mutant) only some steps
    later.
    """

    split: Literal["page", "free", "refused"] = "page"
    large_over_small: Literal["replaced", "refused"] = "replaced"
    misaligned_large: Literal["INVALID_PARAMETER", "INVALID_ALIGNMENT"] = "INVALID_PARAMETER"
    no_access_tables: bool = True
    unmap_large_over_small: Literal["removed", "refused"] = "removed"
    promotion: bool = False
    adjustable: Literal["stored", "enforced"] = "stored"
    tlb: Literal["flushed", "delayed"] = "flushed"


DEFAULT_RULES = SlatRules()


def check_rules(rules: SlatRules) -> None:
    """Raise ``ValueError`` for a setting that a switch does not have, and for two at odds."""
    if rules == DEFAULT_RULES:
        return
    for name, hint in get_type_hints(SlatRules).items():
        settings = get_args(hint) or (False, True)
        if getattr(rules, name) not in settings:
            allowed = ", ".join(map(str, settings))
            raise ValueError(f"slat_rules.{name}: {getattr(rules, name)!r}; it can be {allowed}")
    if rules.promotion and rules.split == "refused":
        # A call whose first element completes 2 MiB would be refused its second.
        raise ValueError("slat_rules.promotion: it needs a split that is not refused")
