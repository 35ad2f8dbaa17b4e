"""What must hold between the keys of a scenario, beyond each having the right type."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mshv_async.hyperv.codes import HvCall, HvStatus
from mshv_async.scenario.errors import Misfit, ScenarioError, close_match, listed, quoted
from mshv_async.scenario.expect import check_verdicts, normalised_driver
from mshv_async.scenario.quantities import GFN_ALLOWED, GFN_LIMIT, PAGE_SIZE, check_uaddr

if TYPE_CHECKING:
    from mshv_async.scenario.model import Region, Situation, VpGroup, Workload
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

ERRNO_DEFAULT: Final = {
    "alloc": "ENOMEM",
    "notifier.insert": "ENOMEM",
    "fault": "EFAULT",
    "pin": "EFAULT",
    "signal": "EINTR",
}
"""What fails at the sites that are no hypercalls, where the scenario names no errno."""

_COUNTED: Final = ("kind", "base", "pages", "accesses", "writes_percent", "seed", "forever")
_WORKLOAD_KEYS: Final = {
    "sequential": _COUNTED,
    "uniform": _COUNTED,
    "zipf": (*_COUNTED, "skew"),
    "trace": ("kind", "file", "base", "forever"),
}

_SITES: Final = "hypercall.<name>, alloc.<site>, notifier.insert, fault, pin, signal"
_BUG: Final = re.compile(r"[A-Z][0-9]{2}")
_LABEL: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


def check(file: str, situation: Situation) -> None:
    """Raise ``ScenarioError`` for the first thing that does not fit together."""
    _check_summary(file, situation)
    for index, region in enumerate(situation.region):
        _check_region(file, f"region[{index}]", region)
    _check_overlap(file, situation.region)
    for index, group in enumerate(situation.vp):
        _check_vp(file, f"vp[{index}]", group)
    if not situation.vp and not situation.thread:
        raise ScenarioError(file, "vp", "nothing", "at least one [[vp]] or [[thread]]")
    _check_bounds(file, situation)
    for label in situation.time:
        if not _LABEL.fullmatch(label):
            raise ScenarioError(file, "time", quoted(label), "labels such as hypercall.map_gpa")
    _check_expect(file, situation)


def _check_summary(file: str, situation: Situation) -> None:
    if not situation.summary.strip() or "\n" in situation.summary.strip():
        raise ScenarioError(file, "summary", quoted(situation.summary), "one line of text")
    for index, bug in enumerate(situation.bugs):
        if not _BUG.fullmatch(bug):
            allowed = 'the name of a catalogue entry, such as "A01"'
            raise ScenarioError(file, f"bugs[{index}]", quoted(bug), allowed)
    for key, size in (("memory", situation.host.memory), ("swap", situation.host.swap)):
        _check_size(file, f"host.{key}", size, least=PAGE_SIZE if key == "memory" else 0)


def _check_size(file: str, key: str, size: int, least: int = PAGE_SIZE) -> None:
    if size < least or size % PAGE_SIZE:
        allowed = f"a multiple of {PAGE_SIZE} bytes, at least {least}"
        raise ScenarioError(file, key, f"{size} bytes", allowed)


def _check_region(file: str, key: str, region: Region) -> None:
    _check_size(file, f"{key}.size", region.size)
    if region.gfn + region.pages > GFN_LIMIT:
        last = f"last page {region.gfn + region.pages - 1:#x}"
        raise ScenarioError(file, f"{key}.size", last, GFN_ALLOWED)
    if len(set(region.flags)) < len(region.flags):
        raise ScenarioError(file, f"{key}.flags", "a flag twice", "each flag once")
    covered = sum(run.pages for run in region.backing_runs)
    if covered != region.pages:
        allowed = f"runs that add up to the region's {region.pages} pages"
        raise ScenarioError(file, f"{key}.backing", f"{covered} pages", allowed)
    if region.uaddr is not None:
        try:
            check_uaddr(region.uaddr)
        except Misfit as misfit:
            raise misfit.at(file, f"{key}.uaddr") from None


def _check_overlap(file: str, regions: tuple[Region, ...]) -> None:
    """Refuse guest pages in two regions; two regions over one address are legal (spec.md 4.2)."""
    order = sorted(range(len(regions)), key=lambda i: regions[i].gfn)
    for before, after in pairwise(order):
        low, high = regions[before], regions[after]
        if low.gfn + low.pages > high.gfn:
            found = f"{high.gfn:#x}, inside region[{before}] ({_range(low)})"
            allowed = "guest pages that no other set-up region has"
            raise ScenarioError(file, f"region[{after}].gfn", found, allowed)


def _range(region: Region) -> str:
    return f"{region.gfn:#x}…{region.gfn + region.pages - 1:#x}"


def _check_vp(file: str, key: str, group: VpGroup) -> None:
    if group.program is None and group.workload is None:
        raise ScenarioError(file, key, "nothing to run", "a program or a workload")
    if group.program is not None and group.workload is not None:
        raise ScenarioError(file, key, "a program and a workload", "one of them")
    if group.workload is not None:
        _check_workload(file, f"{key}.workload", group.workload)


def _check_workload(file: str, key: str, workload: Workload) -> None:
    fitting = _WORKLOAD_KEYS[workload.kind]
    for name in workload.__struct_fields__:
        if name not in fitting and getattr(workload, name) is not None:
            found = f"a key that {workload.kind} does not have"
            raise ScenarioError(file, f"{key}.{name}", found, listed(fitting))
    if workload.kind == "trace" and workload.file is None:
        raise ScenarioError(file, f"{key}.file", "nothing", "the path of a trace (required)")


def _check_bounds(file: str, situation: Situation) -> None:
    for name in situation.bounds.__dataclass_fields__:
        value = getattr(situation.bounds, name)
        if not 1 <= value < 1 << 62:
            raise ScenarioError(file, f"bounds.{name}", str(value), "a whole number, at least 1")


def _check_expect(file: str, situation: Situation) -> None:
    seen: dict[str, str] = {}
    for driver, verdicts in situation.expect.items():
        key = f"expect.{quoted(driver)}"
        try:
            name = normalised_driver(driver)
            check_verdicts(verdicts)
        except Misfit as misfit:
            raise misfit.at(file, key) from None
        if name in seen:
            raise ScenarioError(file, key, f"the driver of {quoted(seen[name])} again", "it once")
        seen[name] = driver


def checked_injection(file: str, key: str, injection: Injection) -> Injection:
    """Return the injection with its failure filled in; ``ScenarioError`` if it makes no sense."""
    site, _, name = injection.at.partition(".")
    if site == "hypercall":
        return _checked_hypercall(file, key, injection, name)
    if site != "alloc" and injection.at not in ERRNO_DEFAULT:
        found = quoted(injection.at) + close_match(injection.at, ERRNO_DEFAULT)
        raise ScenarioError(file, f"{key}.at", found, _SITES)
    if site == "alloc" and not _LABEL.fullmatch(injection.at[6:]):
        raise ScenarioError(file, f"{key}.at", quoted(injection.at), "alloc.<site>")
    if injection.status is not None:
        found = quoted(injection.status)
        raise ScenarioError(file, f"{key}.status", found, f"errno = … at {injection.at}")
    if injection.rep is not None:
        raise ScenarioError(file, f"{key}.rep", str(injection.rep), "no rep: no hypercall's list")
    known = tuple(errno.errorcode.values())
    default = ERRNO_DEFAULT["alloc" if site == "alloc" else injection.at]
    failure = injection.errno or default
    if failure not in known or (injection.at == "signal" and failure != default):
        allowed = default if injection.at == "signal" else f"an errno name, such as {default}"
        raise ScenarioError(file, f"{key}.errno", quoted(failure), allowed)
    _check_permission(file, key, injection)
    return replace(injection, errno=failure)


def _checked_hypercall(file: str, key: str, injection: Injection, name: str) -> Injection:
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
    _check_permission(file, key, injection)
    return injection


def _check_permission(file: str, key: str, injection: Injection) -> None:
    if injection.times < 1:
        raise ScenarioError(file, f"{key}.times", str(injection.times), "at least 1")
    if injection.rep is not None and injection.rep < 0:
        raise ScenarioError(file, f"{key}.rep", str(injection.rep), "at least 0")
    within = injection.within
    if within is not None and (not within.isidentifier() or within.startswith("mshv_")):
        allowed = "a driver function without its mshv_ prefix, such as region_interval_invalidate"
        raise ScenarioError(file, f"{key}.within", quoted(within), allowed)
