"""Plays toy programs: many executions of one, and what each came to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from mshv_async.sim import Bounds, Runtime, current, run_on_stage
from mshv_async.sim.current import instrumented
from mshv_async.sim.strategies import Dfs, Fifo, RandomWalk, Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from mshv_async.sim import Stage, Tape
    from mshv_async.sim.strategies import Strategy

    #: Spawns the threads of a toy; may return what tells the result once they have ended.
    Build = Callable[[Runtime], Callable[[], Hashable] | None]

CLEAN = "clean"
EXHAUST_MAX = 30_000
#: A toy that goes on for longer hangs.
LIMITS = Bounds(max_steps=20_000)


def play_each(
    build: Build,
    strategy: Strategy,
    n: int,
    see: Callable[[Runtime, Any], None],
    **options: Any,
) -> int:
    """Play up to ``n`` executions, show each to ``see``; return how many there were."""

    options.setdefault("bounds", LIMITS)

    async def act(stage: Stage) -> int:
        for execution in range(n):
            if not strategy.begin(execution):
                return execution
            rt = Runtime(strategy, **options)
            token = instrumented.set(rt.instruments)
            result = build(rt)
            instrumented.reset(token)
            await stage.play(rt)
            see(rt, result() if result is not None else None)
        return n

    return run_on_stage(act)


class LastPass(set[Any]):
    """Collects what the executions of a search came to; of one that learns, those of its last pass.

    What it learned from would hide what it leaves out.
    """

    def __init__(self, strategy: Strategy) -> None:
        super().__init__()
        self._strategy = strategy
        self._passes = 0

    def add(self, outcome: Any) -> None:
        """Take what the execution that has just ended came to."""
        passes = getattr(self._strategy, "restarts", 0)
        if passes != self._passes:
            self._passes = passes
            self.clear()
        if getattr(self._strategy, "searched", 1):
            super().add(outcome)


def explore(build: Build, strategy: Strategy, n: int, **options: Any) -> Counter[str]:
    """Count the titles of ``n`` executions; ``clean`` for those that ended without a finding."""
    titles: Counter[str] = Counter()
    play_each(build, strategy, n, lambda rt, _: titles.update([title_of(rt)]), **options)
    return titles


def exhaust(build: Build, preemptions: int | None = None, **options: Any) -> Counter[Any]:
    """Count (verdict, result) over all schedules; fails if they are too many to finish."""
    seen: Counter[Any] = Counter()
    n = play_each(
        build,
        Dfs(preemptions),
        EXHAUST_MAX,
        lambda rt, r: seen.update([(verdict_of(rt), r)]),
        **options,
    )
    assert n < EXHAUST_MAX, "too many schedules"
    return seen


def play_once(build: Build, strategy: Strategy | None = None, **options: Any) -> Runtime:
    """Play one execution, first come first served by default, and return its runtime."""
    played: list[Runtime] = []
    play_each(build, strategy or Fifo(), 1, lambda rt, _: played.append(rt), **options)
    return played[0]


def random_runs(build: Build, n: int, seed: int = 1, **options: Any) -> list[Runtime]:
    """Play ``n`` random executions and keep them all."""
    played: list[Runtime] = []
    play_each(build, RandomWalk(seed), n, lambda rt, _: played.append(rt), **options)
    return played


def replay(build: Build, tape: Tape, **options: Any) -> Runtime:
    """Play a tape again."""
    return play_once(build, Replay(tape), **options)


def title_of(rt: Runtime) -> str:
    return rt.finding.title if rt.finding is not None else CLEAN


def verdict_of(rt: Runtime) -> str:
    if rt.cut is not None:
        return f"cut: {rt.cut}"
    return rt.finding.verdict if rt.finding is not None else CLEAN


def verdicts_of(build: Build, strategy: Strategy, n: int, **options: Any) -> Counter[str]:
    """Count the verdicts of ``n`` executions."""
    seen: Counter[str] = Counter()
    play_each(build, strategy, n, lambda rt, _: seen.update([verdict_of(rt)]), **options)
    return seen


def schedule(rt: Runtime) -> str:
    """Return the steps of an execution as ``thread.label`` words, starts included."""
    return " ".join(f"{rt.all_threads[tid].name}.{op.label}" for tid, op in rt.trace)


async def operation(body: Any, pages: int = 0) -> Any:
    """Run a program operation: progress is owed until it returns."""
    current().owes_progress(pages)
    result = await body
    current().progress()
    return result
