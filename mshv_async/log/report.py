"""The report of a finding, in the order in which kernel developers read (design.md 7).

A title that stays the same for the same bug, the command that replays it, who did what to which
object, who waits for whom or where the page was mapped, freed and used, the columns; only then
the stacks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mshv_async.log.columns import OUTCOME, Predicate, column_of, columns, terminal_width
from mshv_async.log.record import Finding, StepRecord

INDENT = "  "

# Of a bystander's stack: what it is in now, and the outermost.
FRAMES_SHOWN = 3


def report(
    finding: Finding,
    steps: Sequence[StepRecord],
    *,
    command: str | None = None,
    important: Predicate | None = None,
    width: int | None = None,
) -> str:
    """Render `finding` with its interleaving; the first line is the title.

    `command` replays it. Without `steps` there are no columns. Only the columns keep to `width`:
    titles, commands and stacks are for copying and are never cut. By default it is the terminal's.
    """
    if finding.step:
        steps = [record for record in steps if record.step <= finding.step]
    if finding.loop:  # it is shown once
        steps = [record for record in steps if record.step < finding.loop[1]]
    shown = columns(
        [*steps, *_outcome(finding, steps)],
        keep=threads_of(finding),
        important=important,
        involved=finding.threads,
        objects=finding.objects,
        loop=finding.loop,
        width=width or terminal_width(),
    )
    blocks = [
        [title_line(finding.verdict, finding.title)],
        [f"replay: {command}"] if command else [],
        [INDENT + line for line in finding.story],
        [INDENT + line for line in finding.waits],
        shown if steps else [],
        stack_lines(finding.stacks, finding.threads),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _outcome(finding: Finding, steps: Sequence[StepRecord]) -> list[StepRecord]:
    """Return what it came to as a last entry in the column of the thread that met it."""
    if not steps or not finding.threads:
        return []
    last = steps[-1]
    return [
        StepRecord(
            step=last.step,
            t_ns=last.t_ns,
            actor=finding.threads[0],
            label=f"{OUTCOME}{finding.verdict}",
            depends=None if last.depends is None else True,
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


def stack_lines(stacks: Mapping[str, Sequence[str]], involved: Collection[str] = ()) -> list[str]:
    """Render the stacks, the innermost function first; bystanders (if known) on one line each."""
    lines: list[str] = []
    others: list[str] = []
    for actor, frames in stacks.items():
        if not frames:
            continue
        if involved and actor not in involved:
            others.append(f"{INDENT}{actor}: {folded_stack(frames)}")
        else:
            lines += [f"{actor}:", *(INDENT + frame for frame in frames)]
    return [*lines, "also in the driver:", *others] if others else lines


def folded_stack(frames: Sequence[str]) -> str:
    """Render a stack in one line, innermost function first; of a deep one the middle is counted."""
    between = len(frames) - FRAMES_SHOWN - 1
    if between <= 1:
        return " < ".join(frames)
    return " < ".join((*frames[:FRAMES_SHOWN], f"… {between} more …", frames[-1]))
