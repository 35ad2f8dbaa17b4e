"""Permitted failures: at which sites, with which results (spec.md 6.5)."""

from __future__ import annotations

import difflib
import errno
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from mshv_async.driver import PROFILES
from mshv_async.hyperv import HvCall, HvStatus
from mshv_async.scenario.errors import ScenarioError, close_match, listed, quoted

if TYPE_CHECKING:
    from mshv_async.sim.inject import Injection

CALLS: Final = tuple(call.name.lower() for call in HvCall)
REP_CALLS: Final = frozenset(
    {
        "map_gpa",
        "unmap_gpa",
        "deposit",
        "withdraw",
        "get_vp_registers",
        "set_vp_registers",
        "get_gpa_pages_access_states",
        "acquire_sparse_spa_host_access",
        "release_sparse_spa_host_access",
    }
)
"""Hypercalls that work through a list (spec.md 5.1)."""


class _Site(NamedTuple):
    """What can fail at a site of the host; ``errnos`` empty: any. The first is the default."""

    default: str
    errnos: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()


_SITES: Final = {
    "alloc": _Site("ENOMEM", ("ENOMEM",)),
    "notifier.insert": _Site("ENOMEM"),
    "fault": _Site("EFAULT", ("EFAULT", "ENOMEM"), ("SIGBUS", "OOM", "HWPOISON")),
    "pin": _Site("EFAULT", (), ("SHORT",)),
    "signal": _Site("EINTR", ("EINTR",)),
}

_SITES_ALLOWED: Final = "hypercall.<name>, alloc.<site>, notifier.insert, fault, pin, signal"
_ALLOC: Final = re.compile(r"alloc\.[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


def checked_injection(file: str, key: str, injection: Injection) -> Injection:
    """Return the injection with its failure filled in; ``ScenarioError`` if it makes no sense."""
    if injection.at.startswith("hypercall."):
        _check_hypercall(file, key, injection)
    else:
        injection = _checked_host_site(file, key, injection)
    if injection.times < 1:
        raise ScenarioError(file, f"{key}.times", str(injection.times), "at least 1")
    if injection.rep is not None and injection.rep < 0:
        raise ScenarioError(file, f"{key}.rep", str(injection.rep), "at least 0")
    if injection.within is not None:
        _check_function(file, f"{key}.within", injection.within)
    return injection


def _check_hypercall(file: str, key: str, injection: Injection) -> None:
    name = injection.at.partition(".")[2]
    if name not in CALLS:
        found = quoted(injection.at) + close_match(name, CALLS)
        raise ScenarioError(file, f"{key}.at", found, f"hypercall.<name>: {listed(CALLS)}")
    if injection.errno is not None:
        found = quoted(injection.errno)
        raise ScenarioError(file, f"{key}.errno", found, "status = … at a hypercall")
    statuses = tuple(HvStatus.__members__)
    if injection.status not in statuses:
        wrong = injection.status
        found = "nothing" if wrong is None else quoted(wrong) + close_match(wrong, statuses)
        raise ScenarioError(file, f"{key}.status", found, listed(statuses))
    if injection.rep is not None and name not in REP_CALLS:
        found = f"{injection.rep}, but {name} has no list"
        raise ScenarioError(file, f"{key}.rep", found, f"a rep of {listed(sorted(REP_CALLS))}")


def _checked_host_site(file: str, key: str, injection: Injection) -> Injection:
    at = injection.at
    site = _SITES["alloc"] if _ALLOC.fullmatch(at) else _SITES.get(at)
    if site is None or at == "alloc":
        raise ScenarioError(file, f"{key}.at", quoted(at) + close_match(at, _SITES), _SITES_ALLOWED)
    if injection.rep is not None:
        raise ScenarioError(file, f"{key}.rep", str(injection.rep), "no rep: no hypercall's list")
    known = site.errnos or tuple(sorted(errno.errorcode.values()))
    errnos = listed(site.errnos) or f"any, such as {site.default}"
    if injection.status is not None:
        allowed = f"errno ({errnos})"
        if site.statuses:
            allowed = f"status ({listed(site.statuses)}) or {allowed}"
        if injection.status not in site.statuses or injection.errno is not None:
            raise ScenarioError(file, f"{key}.status", quoted(injection.status), allowed)
        return injection
    failure = injection.errno or site.default
    if failure not in known:
        raise ScenarioError(file, f"{key}.errno", quoted(failure), errnos)
    return replace(injection, errno=failure)


def _check_function(file: str, key: str, name: str) -> None:
    """Refuse what cannot be a driver function, and what looks like a misspelt one.

    A name that no shipped profile has may be a function of a user's own driver.
    """
    known = driver_functions()
    bare = name.removeprefix("mshv_")
    near = difflib.get_close_matches(bare, known, n=1, cutoff=0.85)
    if name in known or (name.isidentifier() and name == bare and not near):
        return
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    allowed = "a driver function without its mshv_ prefix, such as region_interval_invalidate"
    raise ScenarioError(file, key, quoted(name) + hint, allowed)


def driver_functions() -> list[str]:
    """Return the names of all functions of all profiles."""
    return sorted({name for cls in PROFILES.values() for name in dir(cls) if name[0] != "_"})
