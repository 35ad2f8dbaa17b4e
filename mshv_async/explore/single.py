"""The commands ``run`` and ``replay``: one execution, timed, in real time, or from a repro."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mshv_async.driver import DriverSpec
from mshv_async.explore.drivers import Driver, driver_spec
from mshv_async.explore.interrupts import interrupts
from mshv_async.explore.playing import Subject, package_version, run_result
from mshv_async.explore.repro import Departed, Repro, check_trust
from mshv_async.explore.results import CLEAN, ReplayResult, RunResult
from mshv_async.explore.slicing import depends_on
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage
from mshv_async.sim.digest import digest, step_lines
from mshv_async.sim.strategies import Fifo, Replay

if TYPE_CHECKING:
    from mshv_async.sim import Runtime, Stage


def run_scenario(
    scenario: Scenario, driver: Driver, seed: int, *, realtime: bool, keep_log: bool
) -> RunResult:
    """Run a scenario once, in timed mode or in real time. Raises DriverError, ScenarioError."""
    subject = Subject(scenario, driver_spec(driver))
    mode = "realtime" if realtime else "timed"

    async def act(stage: Stage) -> Runtime:
        return await subject.play(stage, Fifo(), mode=mode, seed=seed, keep=keep_log)

    with interrupts():
        rt = run_on_stage(act, realtime=realtime)
    return run_result(subject, rt, mode, seed, keep=keep_log)


def subject_of(repro: Repro, driver: Driver | None = None) -> Subject:
    """Rebuild scenario and driver from a repro alone. Raises ScenarioError, DriverError.

    ``driver`` stands in for the one that the repro carries.
    """
    scenario = Scenario.parse(repro.scenario, repro.scenario_name, files=repro.files)
    return Subject(scenario, _driver_of(repro) if driver is None else driver_spec(driver))


def _driver_of(repro: Repro) -> DriverSpec:
    if repro.driver_source is None:
        return driver_spec(repro.driver)
    with tempfile.TemporaryDirectory(prefix="mshv-async-") as folder:
        file, _, cls = repro.driver.rpartition(":")
        path = Path(folder) / Path(file).name
        path.write_text(repro.driver_source)
        return driver_spec(f"{path}:{cls}")


def replay_repro(repro: Repro, trust: bool, driver: Driver | None = None) -> ReplayResult:
    """Replay a repro; ``departure`` says at which step it leaves its recording, and why."""
    if driver is None:
        check_trust(repro, trust=trust)
    subject = subject_of(repro, driver)
    strategy = Replay(repro.tape)

    async def act(stage: Stage) -> tuple[Runtime, frozenset[int] | None]:
        strategy.begin(0)
        rt = await subject.play(stage, strategy, seed=repro.seed, keep=True)
        return rt, await depends_on(subject, stage, rt, seed=repro.seed)

    with interrupts():
        rt, depends = run_on_stage(act)
    result = run_result(subject, rt, repro.strategy, repro.seed, keep=True, depends=depends)
    departure = _departure(repro, rt, strategy.left)
    if departure is not None and repro.package_version != package_version():
        departure += f" (version {repro.package_version} wrote it, this is {package_version()})"
    return ReplayResult(run=result, matches=departure is None, departure=departure)


def replay_exactly(repro: Repro, *, trust: bool) -> RunResult:
    """Replay a repro that must replay. Raises Departed where it leaves its recording."""
    result = replay_repro(repro, trust)
    if not result.matches:
        raise Departed(f"the repro no longer replays: {result.departure}")
    return result.run


def _departure(repro: Repro, rt: Runtime, decisions_left: int) -> str | None:
    recorded, played = repro.steps.lines(), step_lines(rt)
    for step, (old, new) in enumerate(zip(recorded, played, strict=False), start=1):
        if old != new:
            return f"departs at step {step}: recorded {_words(old)}, replayed {_words(new)}"
    if rt.departure is not None:
        return f"departs at step {rt.departure.step}: {rt.departure.why}"
    if len(recorded) != len(played):
        shorter = min(len(recorded), len(played))
        ended = "the replay" if len(played) < len(recorded) else "the recording"
        return f"departs at step {shorter + 1}: {ended} ends there"
    if decisions_left:
        return f"departs at step {len(played)}: it ends with {decisions_left} decisions not taken"
    return _result_departure(repro, rt)


def _words(line: str) -> str:
    """Return a recorded step in quotes; of a step of nothing, the place of its object is empty."""
    return repr(" ".join(line.split()))


def _result_departure(repro: Repro, rt: Runtime) -> str | None:
    verdict = rt.finding.verdict if rt.finding else CLEAN
    title = rt.finding.title if rt.finding else ""
    if (verdict, title) != (repro.verdict, repro.title):
        return (
            f"departs at step {rt.steps}: recorded {repro.title or repro.verdict!r}, "
            f"replayed {title or verdict!r}"
        )
    if digest(rt) != repro.digest:
        return f"departs at step {rt.steps}: the same steps, but another digest (decisions differ)"
    return None
