"""The report of a finding, in the order in which kernel developers read (design.md 7).

A title that stays the same for the same bug, the command that replays it, who did what to which
object, who waits for whom or where the page was mapped, freed and used, the columns; only then
the stacks.
"""

from __future__ import annotations

from collections.abc import Sequence

from mshv_async.log.columns import WIDTH, Predicate, column_of, columns
from mshv_async.log.record import Finding, StepRecord

INDENT = "  "


def report(
    finding: Finding,
    steps: Sequence[StepRecord],
    *,
    command: str | None = None,
    important: Predicate | None = None,
    width: int = WIDTH,
) -> str:
    """Render `finding` with its interleaving; the first line is the title.

    `command` replays it. Without `steps` there are no columns. Only the columns keep to `width`:
    titles, commands and stacks are for copying and are never cut.
    """
    shown = columns(
        [*steps, *_outcome(finding, steps)],
        keep=threads_of(finding),
        important=important,
        width=width,
    )
    blocks = [
        [title_line(finding.verdict, finding.title)],
        [f"replay: {command}"] if command else [],
        [INDENT + line for line in finding.story],
        [INDENT + line for line in finding.waits],
        shown if steps else [],
        stack_lines(finding),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _outcome(finding: Finding, steps: Sequence[StepRecord]) -> list[StepRecord]:
    """Return what it came to as a last entry in the column of the thread that met it."""
    if not steps or not finding.threads:
        return []
    last = steps[-1]
    return [
        StepRecord(
            step=last.step, t_ns=last.t_ns, actor=finding.threads[0], label=f"!! {finding.verdict}"
        )
    ]


def title_line(verdict: str, title: str) -> str:
    """Return `verdict: title`, without saying the verdict twice."""
    if not title or title == verdict:
        return verdict
    return title if title.startswith(f"{verdict}:") else f"{verdict}: {title}"


def threads_of(finding: Finding) -> list[str]:
    """Return the columns that must be shown: those of the threads the finding names."""
    return list(dict.fromkeys(column_of(actor) for actor in (*finding.threads, *finding.stacks)))


def stack_lines(finding: Finding) -> list[str]:
    """Render the stacks, one thread after another, the innermost function first."""
    lines: list[str] = []
    for actor, frames in finding.stacks.items():
        if frames:
            lines += [f"{actor}:", *(INDENT + frame for frame in frames)]
    return lines
