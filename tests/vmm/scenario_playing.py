"""Playing a scenario's text once, with its notes kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.driver import resolve_driver
from mshv_async.explore.playing import Subject
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage
from mshv_async.sim.strategies import Fifo, RandomWalk

if TYPE_CHECKING:
    from mshv_async.sim import Runtime

REGION = 'summary = "s"\n[[region]]\ngfn = 0x200\nsize = "8KiB"\n'
HELPER = '[[process]]\nname = "helper"\nmemory = "64KiB"\n'
HYPERVISOR = '[hypervisor]\nscheduler = "hypervisor"\n'


def vp(*lines: str, more: str = "") -> str:
    return f"[[vp]]\nprogram = {list(lines)!r}\n{more}\n"


def thread(kind: str, *lines: str, more: str = "") -> str:
    return f"[[thread]]\nkind = '{kind}'\nprogram = {list(lines)!r}\n{more}\n"


def play(text: str, driver: str = "fix1", seed: int | None = None, **options: Any) -> Runtime:
    """Play one schedule: first in, first out, or the random one of a seed."""
    subject = Subject(Scenario.parse(text, "test"), resolve_driver(driver))
    strategy = Fifo() if seed is None else RandomWalk(seed)
    strategy.begin(0)
    return run_on_stage(lambda stage: subject.play(stage, strategy, keep=True, **options))


def verdict(rt: Runtime) -> str:
    return rt.finding.title if rt.finding else "clean"


def told(rt: Runtime, *events: str) -> list[tuple[str, dict[str, Any]]]:
    """The notes of these events, in order: event and fields."""
    return [(str(f["event"]), f) for _, _, _, f in rt.notes or () if f["event"] in events]


def results(rt: Runtime, operation: str) -> list[str]:
    """What an operation came to, each time it was done."""
    return [str(f["ret"]) for _, f in told(rt, "op.end") if str(f["op"]).startswith(operation)]
