"""What must hold between the keys of a scenario, beyond each having the right type."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mshv_async.driver import DriverError, resolve_driver
from mshv_async.scenario.errors import Misfit, ScenarioError, close_match, listed, one_line, quoted
from mshv_async.scenario.expect import check_verdicts, normalised_driver
from mshv_async.scenario.labels import check_label
from mshv_async.scenario.quantities import GFN_ALLOWED, GFN_LIMIT, PAGE_SIZE, check_uaddr

if TYPE_CHECKING:
    from mshv_async.scenario.model import Region, Situation, VpGroup, Workload

_COUNTED: Final = ("kind", "base", "pages", "accesses", "writes_percent", "seed", "forever")
_WORKLOAD_KEYS: Final = {
    "sequential": _COUNTED,
    "uniform": _COUNTED,
    "zipf": (*_COUNTED, "skew"),
    "trace": ("kind", "file", "base", "forever"),
}

_BUG: Final = re.compile(r"[A-Z][0-9]{2}")
_PROCESS: Final = re.compile(r"[a-z][a-z0-9-]*")
VMM: Final = "vmm"
"""What the VMM's own process is called."""


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
    _check_processes(file, situation)
    _check_bounds(file, situation)
    for label in situation.time:
        try:
            check_label(label)
        except Misfit as misfit:
            raise misfit.at(file, "time") from None
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


def _check_processes(file: str, situation: Situation) -> None:
    names = [VMM]
    for index, process in enumerate(situation.process):
        key = f"process[{index}]"
        if process.name in names or not _PROCESS.fullmatch(process.name):
            allowed = f"small letters, digits and -, unlike {listed(names)}"
            raise ScenarioError(file, f"{key}.name", quoted(process.name), allowed)
        names.append(process.name)
        _check_size(file, f"{key}.memory", process.memory, least=0)
    wanted = [(f"vp[{i}]", group.process) for i, group in enumerate(situation.vp)]
    for index, thread in enumerate(situation.thread):
        key = f"thread[{index}]"
        wanted.append((key, thread.process))
        if thread.process is not None and thread.kind not in {"vmm", "host"}:
            found = f"a process for a thread of kind {thread.kind}"
            raise ScenarioError(file, f"{key}.process", found, "kind vmm or host beside it")
    for key, name in wanted:
        if name is not None and name not in names:
            found = quoted(name) + close_match(name, names)
            raise ScenarioError(file, f"{key}.process", found, f"a process: {listed(names)}")
    _check_fit(file, situation)


def _check_fit(file: str, situation: Situation) -> None:
    """Refuse more memory at the start than the host has."""
    free = situation.host.memory - PAGE_SIZE  # the zero page
    for index, process in enumerate(situation.process):
        free -= process.memory
        if free < 0:
            allowed = "no more in all than host.memory less one page"
            raise ScenarioError(file, f"process[{index}].memory", f"{process.memory:#x}", allowed)


def _check_bounds(file: str, situation: Situation) -> None:
    for name in situation.bounds.__dataclass_fields__:
        value = getattr(situation.bounds, name)
        if not isinstance(value, bool) and not 1 <= value < 1 << 62:
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
        _check_driver(file, key, driver)
        if name in seen:
            raise ScenarioError(file, key, f"the driver of {quoted(seen[name])} again", "it once")
        seen[name] = driver


def _check_driver(file: str, key: str, driver: str) -> None:
    """Refuse a profile or patch that there is not; a user's file need not be there."""
    if ".py:" in driver:
        return
    try:
        resolve_driver(driver)
    except DriverError as error:
        allowed = "what `list drivers` and `list patches` show, or file.py:Class"
        raise ScenarioError(
            file, key, f"{quoted(driver)} ({one_line(str(error))})", allowed
        ) from None
