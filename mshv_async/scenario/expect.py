"""What a scenario is expected to show under a driver, and whether an outcome is that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mshv_async.scenario.errors import Misfit, close_match, listed, quoted
from mshv_async.sim.verdicts import ORDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CLEAN: Final = "clean"

VERDICTS: Final = tuple(verdict for verdict in ORDER if verdict != "invariant")

INVARIANTS: Final = (
    "stale-mapping",
    "coherence",
    "guest-data",
    "page-array",
    "notifier-sequence",
    "notifier-tree",
    "region-ownership",
    "rights",
    "large-page-shape",
    "access-not-absent",
    "atomic-failure",
    "nonblockable-refusal",
    "dirty-complete",
    "pin-stability",
    "encrypted-exclusive",
    "deposit-accounting",
    "reclaim-under-lock",
    "kick",
    "teardown-clean",
    "bounded-memory",
)
"""Every invariant of the design, whether the oracle judges it yet or not."""

EXPECTABLE: Final = (*VERDICTS, *(f"invariant:{name}" for name in INVARIANTS))
"""Every verdict that an expectation can name."""

_DRIVER_ALLOWED: Final = (
    'a profile, a profile with patches ("v6+unlock-on-failure") or "file.py:Class"'
)
_PROFILE: Final = re.compile(r"[a-z][a-z0-9]*(\+[a-z0-9]+(-[a-z0-9]+)*)*")
_FILE: Final = re.compile(r"[^:]*?([^/\\:]+\.py):([A-Za-z_]\w*)")


def normalised_driver(spec: str) -> str:
    """Return one spelling for specs that name the same driver; ``Misfit`` if it is none.

    Patches come in alphabetical order (those that can stand in two orders act on different
    functions), a user's file without its folder.
    """
    if _PROFILE.fullmatch(spec):
        profile, *patches = spec.split("+")
        if len(set(patches)) == len(patches):
            return "+".join([profile, *sorted(patches)])
    elif match := _FILE.fullmatch(spec):
        return f"{match[1]}:{match[2]}"
    raise Misfit(quoted(spec), _DRIVER_ALLOWED)


def check_verdicts(verdicts: Sequence[str]) -> None:
    """Raise ``Misfit`` for what no execution can come to, and for clean beside a failure."""
    for verdict in verdicts:
        if verdict not in EXPECTABLE:
            raise Misfit(quoted(verdict) + close_match(verdict, EXPECTABLE), listed(EXPECTABLE))
    if CLEAN in verdicts and len(verdicts) > 1:
        raise Misfit(f'"{CLEAN}" beside other verdicts', f'"{CLEAN}" alone, or failures only')


def expected_for(expect: Mapping[str, Sequence[str]], driver: str) -> tuple[str, ...]:
    """Return the verdicts expected of a driver; of one that is not named, ``("clean",)``."""
    wanted = normalised_driver(driver)
    for name, verdicts in expect.items():
        if normalised_driver(name) == wanted:
            return tuple(verdicts) or (CLEAN,)
    return (CLEAN,)


def as_expected(expected: Iterable[str], verdicts: Iterable[str]) -> bool:
    """Whether findings with these ``verdicts`` are what was ``expected``.

    At least one finding has a listed verdict and none has another; where clean is expected
    (nothing listed, or ``clean``), there is no finding.
    """
    listed_ones = [v for v in expected if v != CLEAN]
    found = [v for v in verdicts if v != CLEAN]
    if not listed_ones:
        return not found
    return bool(found) and all(v in listed_ones for v in found)
