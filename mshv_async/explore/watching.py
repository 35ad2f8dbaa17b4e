"""Progress of a campaign on standard error, where somebody watches."""

# ruff: noqa: PLC0415 - rich is for terminals only

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mshv_async.explore.results import Progress


@contextmanager
def watched(schedules: int, *, enabled: bool) -> Iterator[Progress | None]:
    """Yield what the campaign calls to tell how far it is; None, and nothing shown, if disabled.

    rich is imported only where there is a terminal, and obeys NO_COLOR itself.
    """
    if not enabled:
        yield None
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

        yield progress
