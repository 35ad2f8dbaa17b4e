"""Playing a scenario: one execution from nothing to what it came to."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from mshv_async import driver as driver_room
from mshv_async.driver import DriverError
from mshv_async.explore.results import CLEAN, RunResult
from mshv_async.host.page import PAGE_SHIFT
from mshv_async.log.record import (
    LOG_SCHEMA,
    Finding,
    NoteRecord,
    Record,
    RegionPlace,
    RunHeader,
    StepRecord,
)
from mshv_async.scenario.modelled import check_modelled
from mshv_async.scenario.world import WorldPlan, build_runtime
from mshv_async.sim.digest import digest
from mshv_async.sim.strategies import Replay

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mshv_async.driver import DriverSpec
    from mshv_async.scenario import Scenario
    from mshv_async.sim import Runtime, Stage
    from mshv_async.sim.checkers import StepChecker
    from mshv_async.sim.strategies import Strategy


def package_version() -> str:
    """Return the installed version, or ``unknown`` in a bare source tree."""
    try:
        return version("mshv-async")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is explored: a scenario on a driver. The same for every execution of a campaign."""

    scenario: Scenario
    driver: DriverSpec
    checking: bool = False
    plan: WorldPlan = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse, with ScenarioError, what the model does not have."""
        check_modelled(self.scenario)
        object.__setattr__(self, "plan", WorldPlan.of(self.scenario, self.driver))

    async def play(
        self,
        stage: Stage,
        strategy: Strategy,
        *,
        mode: str = "explore",
        seed: int = 1,
        keep: bool = False,
        checkers: tuple[StepChecker, ...] = (),
    ) -> Runtime:
        """Play one execution; ``keep`` records its notes. A defect of the model is raised."""
        runtime = build_runtime(
            self.plan,
            strategy,
            mode=mode,
            seed=seed,
            keep=keep,
            checkers=checkers,
            instrument=self.checking or bool(checkers) or strategy.records,
        )
        try:
            await stage.play(runtime)
        except Exception as error:
            if self.driver.source is not None:
                raise_if_users(error, self.driver.name)
            raise
        return runtime


async def play_tape(
    subject: Subject,
    stage: Stage,
    tape: Sequence[tuple[str, int, int]],
    *,
    seed: int = 1,
    keep: bool = False,
    checkers: tuple[StepChecker, ...] = (),
) -> Runtime:
    """Play a tape as :meth:`Subject.play` does; past its end the execution goes on as fifo does."""
    strategy = Replay(tape)
    strategy.begin(0)
    return await subject.play(stage, strategy, seed=seed, keep=keep, checkers=checkers)


_DRIVER = Path(driver_room.__file__).parent


def raise_if_users(error: Exception, driver: str) -> None:
    """Raise DriverError, one line, if an error is the user's: raised in the file, or by its result.

    What a method of theirs returns is taken apart in the driver's own code.
    """
    file = Path(driver.rpartition(":")[0])
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return
    last = Path(frames[-1].filename)
    what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if last.name == file.name:
        raise DriverError(f"{file}:{frames[-1].lineno}: {what}") from error
    if isinstance(error, TypeError | ValueError | AttributeError) and _DRIVER in last.parents:
        where = f"{last.relative_to(_DRIVER.parent)}:{frames[-1].lineno}"
        raise DriverError(f"{file}: a result that {where} cannot use: {what}") from error


def records(rt: Runtime, depends: Collection[int] | None = None) -> list[Record]:
    """Return the steps and notes of a kept execution, in order.

    ``depends``: the steps, from 1, that its finding depends on, if that is known.
    """
    names = [t.name for t in rt.all_threads]
    preempted = frozenset(rt.preempted_at)
    choices = dict(rt.choices)
    timed = rt.mode != "explore"
    notes = rt.notes or []
    found: list[Record] = []
    at = 0
    for index, (tid, op) in enumerate(rt.trace):
        step = index + 1
        while at < len(notes) and notes[at][0] < step:
            found.append(_note(notes[at], timed=timed))
            at += 1
        choice = choices.get(step)
        found.append(
            StepRecord(
                step=step,
                t_ns=rt.clock_trace[index] if timed else None,
                actor=names[tid],
                label=op.label,
                object=op.object_name,
                lo=op.lo,
                hi=op.hi,
                write=op.write,
                preempted=step in preempted,
                decision=(choice.label, choice.value, choice.bound) if choice else None,
                depends=None if depends is None else step in depends,
            )
        )
    found.extend(_note(note, timed=timed) for note in notes[at:])
    return found


def _note(note: tuple[int, int, str, dict[str, object]], *, timed: bool) -> NoteRecord:
    step, t_ns, actor, fields = note
    fields = dict(fields)
    event = str(fields.pop("event"))
    kept = {k: v if isinstance(v, int | str | bool) else str(v) for k, v in fields.items()}
    return NoteRecord(
        step=step, t_ns=t_ns if timed else None, actor=actor, event=event, fields=kept
    )


def log_finding(rt: Runtime) -> Finding | None:
    """Return the execution's finding as reports and logs know it."""
    found = rt.finding
    if found is None:
        return None
    return Finding(
        verdict=found.verdict,
        title=found.title,
        story=found.story,
        waits=found.waits,
        stacks=found.stacks,
        threads=found.threads,
        objects=found.objects,
        step=found.step,
        loop=found.loop,
    )


def _end_ns(rt: Runtime) -> int:
    """Return when the last thread was done: what ends the execution may be earlier."""
    return max(rt.now_ns, *(thread.clock_ns for thread in rt.all_threads))


def run_result(
    subject: Subject,
    rt: Runtime,
    strategy: str,
    seed: int,
    *,
    keep: bool,
    depends: Collection[int] | None = None,
) -> RunResult:
    """Return what an execution came to; ``depends`` as for :func:`records`."""
    found = rt.finding
    return RunResult(
        verdict=found.verdict if found else CLEAN,
        title=found.title if found else "",
        digest=None if rt.mode == "realtime" else digest(rt),
        steps=rt.steps,
        virtual_ns=_end_ns(rt) if rt.timed else None,
        header=RunHeader(
            schema=LOG_SCHEMA,
            scenario=subject.scenario.name,
            driver=subject.driver.name,
            strategy=strategy,
            seed=seed,
            package_version=package_version(),
            regions=tuple(
                RegionPlace(gfn=place.gfn, vpn=place.uaddr >> PAGE_SHIFT, pages=place.pages)
                for place in subject.scenario.addresses.placed
            ),
        ),
        records=records(rt, depends) if keep or found is not None else (),
        finding=log_finding(rt),
        cut=rt.cut is not None,
    )
