"""Searches a scenario under a driver, and says which findings came and how soon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.driver import PROFILES, DriverSpec, resolve_driver
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.playing import Subject
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage
from mshv_async.sim.strategies import Fifo

if TYPE_CHECKING:
    from mshv_async.driver import V6
    from mshv_async.explore.results import CampaignResult, FoundFinding
    from mshv_async.sim import Runtime, Stage
    from mshv_async.sim.faults import Finding

#: A driver by name, or a class with a planted fault.
Driver = str | type["V6"]

SCHEDULES = 300


def spec_of(driver: Driver) -> DriverSpec:
    """Return a driver's spec; a class runs as the profile it derives from."""
    if isinstance(driver, str):
        return resolve_driver(driver)
    base = next(name for name, known in reversed(PROFILES.items()) if issubclass(driver, known))
    return DriverSpec(driver.__name__, driver, base)


def search(
    text: str,
    driver: Driver,
    schedules: int = SCHEDULES,
    *,
    strategy: str = "portfolio",
    keep_going: bool = False,
    preemptions: int | None = None,
) -> CampaignResult:
    """Explore a scenario given as TOML text; a finding that does not replay raises."""
    scenario = Scenario.parse(f'summary = "inline"\n{text}', "inline")
    return explore_sync(
        scenario,
        spec_of(driver),
        strategy=strategy,
        schedules=schedules,
        keep_going=keep_going,
        preemptions=preemptions,
    )


def found(text: str, driver: Driver, verdict: str, schedules: int = SCHEDULES) -> int:
    """Fail unless the search comes upon ``verdict``; return after how many executions it did."""
    return _first(text, driver, verdict, schedules).first_schedule


def finding_of(
    text: str, driver: Driver, verdict: str, schedules: int = SCHEDULES, told: str = ""
) -> Finding:
    """Fail unless the search comes upon ``verdict``, with ``told`` in its story; return it."""
    return _first(text, driver, verdict, schedules, told).finding


def _first(text: str, driver: Driver, verdict: str, schedules: int, told: str = "") -> FoundFinding:
    """Return the first of a verdict.

    Other findings on the way are no obstacle: one fault can show in several ways.
    """
    seen: list[str] = []
    for keep_going in (False, True):
        for strategy in ("portfolio", "pct", "random") if told else ("portfolio", "pos", "random"):
            result = search(text, driver, schedules, strategy=strategy, keep_going=keep_going)
            for finding in result.findings:
                story = "\n".join(finding.finding.story)
                if finding.finding.verdict == verdict and told in story:
                    return finding
                seen.append(finding.finding.title)
    raise AssertionError(f"no {verdict} in {schedules} executions, but {seen or 'nothing'}")


def silent(text: str, driver: Driver, schedules: int = 100) -> None:
    """Fail if two searches of ``schedules`` executions each find anything at all."""
    for strategy in ("portfolio", "random"):
        result = search(text, driver, schedules, strategy=strategy)
        for finding in result.findings:
            told = "\n  ".join((finding.finding.title, *finding.finding.story))
            raise AssertionError(f"{strategy}, execution {finding.first_schedule}: {told}")


def timed_verdict(text: str, driver: Driver) -> str:
    """Run a scenario once in timed mode and return its verdict."""
    scenario = Scenario.parse(f'summary = "inline"\n{text}', "inline")
    subject = Subject(scenario, spec_of(driver))

    async def act(stage: Stage) -> Runtime:
        return await subject.play(stage, Fifo(), mode="timed")

    rt = run_on_stage(act)
    return rt.finding.verdict if rt.finding is not None else "clean"


# -- pieces of scenarios ---------------------------------------------------------------------

REGION = """
[[region]]
gfn = 0x200
size = "8KiB"
"""
READ_ONLY_REGION = f"{REGION}flags = []\n"
SWAP = '\n[host]\nswap = "64KiB"\n'


def vps(*program: str, count: int = 1) -> str:
    """Return virtual processors that run a program."""
    return f"\n[[vp]]\ncount = {count}\nprogram = {list(program)}\n"


def thread(kind: str, *program: str) -> str:
    """Return a thread that runs a program."""
    return f'\n[[thread]]\nkind = "{kind}"\nprogram = {list(program)}\n'


def failing_map(within: str, *, rep: int | None = None, force: bool = False) -> str:
    """Return the permission for one map hypercall within a function to fail."""
    text = '\n[[inject]]\nat = "hypercall.map_gpa"\nstatus = "OPERATION_FAILED"\n'
    text += f'within = "{within}"\nforce = {str(force).lower()}\n'
    return text if rep is None else f"{text}rep = {rep}\n"
