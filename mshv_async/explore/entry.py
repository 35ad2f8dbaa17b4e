"""The doors for Python code: `explore`, `run` and `replay`, awaited from any running loop.

They run a simulated loop of their own, in a thread: a loop cannot run inside another one. A thread
rather than a process, so that a driver class or a scenario may come from anywhere, a test function
included; one search uses one processor either way.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from mshv_async.explore import campaign, single
from mshv_async.explore.catalogue import TWO_PHASE
from mshv_async.explore.checking import ModelChecks
from mshv_async.explore.drivers import Driver, driver_spec
from mshv_async.explore.numbers import Shard
from mshv_async.explore.outcome import (
    Outcome,
    ReplayOutcome,
    RunOutcome,
    campaign_outcome,
    expect_table,
    replay_outcome,
    run_outcome,
)
from mshv_async.explore.repro import Repro, check_trust, load_repro, parts_of
from mshv_async.explore.results import log_verdict
from mshv_async.explore.saving import output_folder, save_campaign, save_outcome
from mshv_async.log import write_log
from mshv_async.scenario import Scenario, expected_for
from mshv_async.sim.loop import SimLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.explore.results import Progress, RunResult

R = TypeVar("R")


async def explore(
    scenario: Scenario | str | Path,
    driver: Driver = "v6",
    *,
    schedules: int = 10_000,
    strategy: str = "portfolio",
    seed: int = 1,
    seconds: float | None = None,
    preemptions: int | None = None,
    keep_going: bool = False,
    check: bool = False,
    two_phase: bool = False,
    shrink: bool = True,
    audit: bool = False,
    workers: int = 1,
    shard: str = "1/1",
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Explore up to `schedules` interleavings of a scenario, or for `seconds`.

    `driver` is a name (`v9+check-access`), a class, or `file.py:Class`. Stops at the first finding
    unless `keep_going`; each is made as small as it gets, unless `shrink` is off. `preemptions`
    bounds each schedule of strategy `dfs` or `stateful`; `check` also checks the model.
    `two_phase`: from some decision on nothing fails or interferes, and what is under way must end.
    `out` is a folder for `outcome.json`, the repro files and the store of the campaign, with which
    `resume` goes on; `shard`, as `2/3`, plays part of the executions, `workers` is how many
    processes do so. `audit` plays each execution again and raises NotDeterministic if it differs.
    `progress` is called from the thread that works.

    Raises ScenarioError, DriverError, StrategyError, CampaignError, OSError for input that cannot
    be used, and RuntimeError inside the simulated loop. Cancelled, it ends with the execution that
    it is in.
    """
    stop = campaign.Stop()

    def work() -> Outcome:
        return _explore(
            scenario,
            driver,
            out,
            check=check,
            schedules=schedules,
            strategy=strategy + (TWO_PHASE if two_phase else ""),
            seed=seed,
            seconds=seconds,
            preemptions=preemptions,
            keep_going=keep_going,
            shrink=shrink,
            audit=audit,
            workers=workers,
            shard=shard,
            resume=resume,
            progress=progress,
            stop=stop,
        )

    return await _off_the_loop("explore", work, stop)


def explore_sync(
    scenario: Scenario | str | Path,
    driver: Driver = "v6",
    *,
    schedules: int = 10_000,
    strategy: str = "portfolio",
    seed: int = 1,
    seconds: float | None = None,
    preemptions: int | None = None,
    keep_going: bool = False,
    check: bool = False,
    two_phase: bool = False,
    shrink: bool = True,
    audit: bool = False,
    workers: int = 1,
    shard: str = "1/1",
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Do as :func:`explore` does, for scripts: from code that runs in no loop."""
    _refuse_loop("explore_sync", "explore")
    return _explore(
        scenario,
        driver,
        out,
        check=check,
        schedules=schedules,
        strategy=strategy + (TWO_PHASE if two_phase else ""),
        seed=seed,
        seconds=seconds,
        preemptions=preemptions,
        keep_going=keep_going,
        shrink=shrink,
        audit=audit,
        workers=workers,
        shard=shard,
        resume=resume,
        progress=progress,
    )


async def run(
    scenario: Scenario | str | Path,
    driver: Driver = "v6",
    *,
    seed: int = 1,
    realtime: bool = False,
    log: str | Path | None = None,
) -> RunOutcome:
    """Run a scenario once in virtual time, or in real time; `log` is a file for its events.

    Raises as :func:`explore` does.
    """

    def work() -> RunOutcome:
        situation, spec = _scenario(scenario), driver_spec(driver)
        result = single.run_scenario(
            situation, spec, seed, realtime=realtime, keep_log=log is not None
        )
        return run_outcome(
            result,
            scenario=situation.name,
            driver=spec.name,
            seed=seed,
            expected=situation.expected(spec.name),
            log=_logged(log, result),
        )

    return await _off_the_loop("run", work)


async def replay(
    repro: Repro | str | Path,
    driver: Driver | None = None,
    *,
    trust: bool = False,
    log: str | Path | None = None,
) -> ReplayOutcome:
    """Replay one recorded schedule: a file, or one of `Outcome.repros`.

    A repro that carries a user's driver runs it only with `trust`, or with `driver` in its place.
    Raises ReproError, and as :func:`explore` does.
    """

    def work() -> ReplayOutcome:
        recorded, path = (
            (repro, "repro") if isinstance(repro, Repro) else (load_repro(repro), repro)
        )
        if driver is None:
            check_trust(recorded, trust=trust, path=path, how="trust=True")
        given = None if driver is None else driver_spec(driver)
        with parts_of(path):
            result = single.replay_repro(recorded, trust, given)
        expected = expected_for(expect_table(recorded.scenario), recorded.driver)
        return replay_outcome(result, recorded, expected=expected, log=_logged(log, result.run))

    return await _off_the_loop("replay", work)


def _explore(
    scenario: Scenario | str | Path,
    driver: Driver,
    out: str | Path | None,
    *,
    check: bool,
    **options: Any,
) -> Outcome:
    situation, spec = _scenario(scenario), driver_spec(driver)
    _check_numbers(options)
    part, resume = Shard.parse(options.pop("shard")), options["resume"]
    folder = None if out is None and not resume else _folder(out, situation.name, resume=resume)
    checks = ModelChecks() if check else None
    result = campaign.explore_sync(
        situation, spec, checks=checks, shard=part, store=folder, proves=True, **options
    )
    if result.error is not None:
        result.error.add_note(f"after {result.schedules} schedules")
        raise result.error
    outcome = campaign_outcome(
        result,
        scenario=situation.name,
        driver=spec.name,
        strategy=options["strategy"],
        seed=options["seed"],
        expected=situation.expected(spec.name),
        repros=save_campaign(folder, result) if folder is not None else (),
        preemptions=options["preemptions"],
        workers=options["workers"],
        shard=str(part),
    )
    if folder is not None:
        save_outcome(folder, outcome.object())
    return outcome


def _folder(out: str | Path | None, scenario: str, *, resume: bool) -> Path:
    return output_folder(None if out is None else Path(out), scenario, resume=resume)


def _check_numbers(options: dict[str, Any]) -> None:
    """Raise ``ValueError`` for a budget of nothing, which would come out clean."""
    for name, least in (("schedules", 1), ("seed", 0), ("preemptions", 0), ("workers", 1)):
        value = options[name]
        if name == "preemptions" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}: found {value!r}; allowed: an integer from {least} on")


def _scenario(scenario: Scenario | str | Path) -> Scenario:
    if isinstance(scenario, Scenario):
        return scenario
    if not isinstance(scenario, str | Path):
        raise TypeError(f"scenario: found {scenario!r}; allowed: a Scenario, a name or a path")
    return Scenario.load(scenario)


def _logged(log: str | Path | None, run: RunResult) -> Path | None:
    if log is None:
        return None
    write_log(Path(log), run.header, run.records, log_verdict(run))
    return Path(log)


async def _off_the_loop(name: str, work: Callable[[], R], stop: campaign.Stop | None = None) -> R:
    """Do the work in a thread; cancelled, leave at once and let the thread end by itself."""
    if isinstance(asyncio.get_running_loop(), SimLoop):
        raise RuntimeError(  # noqa: TRY004 - the loop is no argument
            f"{name} runs a simulated loop of its own and cannot be awaited inside one: call it "
            "from a test without the marker mshv"
        )
    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    finally:
        if stop is not None:
            stop()


def _refuse_loop(name: str, instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{name} is for code outside any loop: await {instead}(…) here instead")
