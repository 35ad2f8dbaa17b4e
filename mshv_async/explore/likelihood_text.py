"""A likelihood in words: the plot, the decision that decided, and the steps around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.log.columns import WIDTH, columns, step_texts
from mshv_async.log.record import StepRecord
from mshv_async.log.report import folded_stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.explore.decisions import Standing
    from mshv_async.explore.likelihood import Jump, Likelihood, Point, Share

SAME, OTHER = "#", "+"
CONTEXT = 2  # steps shown before and after the guilty one
BAR_MIN = 10


def likelihood_text(found: Likelihood, steps: Sequence[StepRecord], *, width: int = WIDTH) -> str:
    """Render a likelihood; the plot and the columns keep to `width`."""
    head = [
        f"{found.scenario}  driver {found.driver}  seed {found.seed}",
        found.title,
        f"{found.steps:,} steps, {found.decisions:,} decisions",
    ]
    if found.points:
        head[-1] += f"; from each point {found.points[0].runs} continuations at random"
    if not found.points:
        head.append("interrupted before the first point was measured")
    elif found.interrupted:
        head.append("interrupted: this is what was measured so far")
    blocks = [head, _plot(found.points, width)]
    for what, jump in _jumps(found):
        blocks += [_jump_lines(what, jump), _context(jump, steps, width)]
    if found.jump is None and not found.interrupted:
        blocks.append([_without_jump(found)])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _jumps(found: Likelihood) -> list[tuple[str, Jump]]:
    """Return the decisions to tell of; that of all failures only where it is another one."""
    jumps = []
    if found.jump is not None:
        jumps.append(("the share with this title", found.jump))
    if found.jump_any is not None and (
        found.jump is None or found.jump.number != found.jump_any.number
    ):
        jumps.append(("the share of all failures", found.jump_any))
    return jumps


def _plot(points: Sequence[Point], width: int) -> list[str]:
    if not points:
        return []
    rows = [_numbers(point) for point in points]
    titles = ("kept", "from step", "fails", "95 %", "in any way")
    wide = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    room = max(BAR_MIN, width - sum(wide) - 2 * len(wide))
    lines = ["  ".join(text.rjust(n) for text, n in zip(titles, wide, strict=True))]
    for point, row in zip(points, rows, strict=True):
        same, failed = (round(share.share * room) for share in (point.same, point.any))
        bar = SAME * same + OTHER * (failed - same)
        text = "  ".join(text.rjust(n) for text, n in zip(row, wide, strict=True))
        lines.append(f"{text}  {bar}".rstrip())
    lines.append(f"kept: decisions replayed; {SAME} fails with this title, {OTHER} with another")
    return lines


def _numbers(point: Point) -> tuple[str, ...]:
    return (
        f"{point.decisions:,}",
        f"{point.step:,}",
        percent(point.same.share),
        f"{percent(point.same.low)} - {percent(point.same.high)}",
        percent(point.any.share),
    )


def percent(share: float) -> str:
    """Render a share; what is not quite none or all is not shown as either."""
    shown = round(100 * share)
    if shown in (0, 100) and share not in (0.0, 1.0):
        return "<1 %" if shown == 0 else ">99 %"
    return f"{shown} %"


def _without_jump(found: Likelihood) -> str:
    if found.points[0].same.failed:
        return "no decision raises the share: it fails from the start on"
    return "no decision raises the share: no continuation fails"


def _jump_lines(what: str, jump: Jump) -> list[str]:
    """Say which decision it was, what it took and what it passed over."""
    seen = jump.decision
    lines = [
        f"decided at step {seen.step:,} (decision {jump.number:,}): {what} rises from "
        f"{_range(jump.before)} to {_range(jump.after)}"
    ]
    if not jump.clear:
        lines.append("  the intervals meet: no single decision stands out")
    if seen.choice is not None:
        label, value, bound = seen.choice
        lines.append(f"  chosen: {label} = {value} of 0-{bound - 1} by {standing_text(seen.taken)}")
    else:
        lines.append(f"  runs: {standing_text(seen.taken)}")
        lines += [f"  passed over: {standing_text(other)}" for other in seen.passed_over]
    return lines


def _range(share: Share) -> str:
    return f"{percent(share.share)} ({percent(share.low)} - {percent(share.high)})"


def standing_text(standing: Standing) -> str:
    """Render where a thread stands: its name, its operation, the driver's functions."""
    record = StepRecord(
        0, None, standing.thread, standing.label, standing.object, standing.lo, standing.hi
    )
    where = f", in {folded_stack(standing.functions)}" if standing.functions else ""
    return f"{standing.thread} at {step_texts(record)[0]}{where}"


def _context(jump: Jump, steps: Sequence[StepRecord], width: int) -> list[str]:
    """Show the guilty step between others; starts and messages are not shown, nor counted."""
    at = jump.decision.step
    told = [r for r in steps if not r.label.startswith(("thread.start", "mailbox."))]
    before = [r for r in told if r.step < at][-CONTEXT:]
    after = [r for r in told if r.step > at][:CONTEXT]
    guilty = [r for r in steps if r.step == at]
    return columns([*before, *guilty, *after], width=width, important=lambda _: True)
