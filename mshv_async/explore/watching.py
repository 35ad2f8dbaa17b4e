"""Progress of a campaign on standard error, where somebody watches."""

# ruff: noqa: PLC0415 - rich is for terminals only

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mshv_async.explore.estimate import Estimate, Expect
    from mshv_async.explore.results import Progress


@dataclass(frozen=True, slots=True)
class Watch:
    """What a campaign calls to tell how far it is, and how far it has to go; None: nobody looks."""

    progress: Progress | None = None
    expect: Expect | None = None


@contextmanager
def watched(schedules: int, *, enabled: bool) -> Iterator[Watch]:
    """Yield what to call; with nothing to call, and nothing shown, if disabled.

    The bar is the budget of schedules, or what an exhaustive search is estimated to need if that
    is less. rich is imported only where there is a terminal, and obeys NO_COLOR itself.
    """
    if not enabled:
        yield Watch()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    shown = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("schedules, {task.fields[steps]:,} steps, {task.fields[findings]} findings"),
        TimeElapsedColumn(),
    )
    with Bar(*shown, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("explore", total=schedules, steps=0, findings=0)

        def progress(done: int, steps: int, findings: int) -> None:
            bar.update(task, completed=done, steps=steps, findings=findings)

        def expect(estimate: Estimate) -> None:
            bar.update(task, total=min(schedules, round(estimate.mean)))

        yield Watch(progress, expect)
