"""An analysis as text: short tables, numbers to the right, times in readable units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from mshv_async.log.analysis import Analysis, Faults, Hypercalls
from mshv_async.log.columns import WIDTH, clip
from mshv_async.log.history import RegionHistory
from mshv_async.log.locks import LockClass, Spread, Wait, cycle
from mshv_async.log.repeats import fold_repeats
from mshv_async.log.report import stack_lines, title_line
from mshv_async.log.turns import Turns
from mshv_async.sim.spans import span

# The kinds and threads beyond these are summed up in one line.
ROWS_MAX = 20

_UNITS = (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000))


def analysis_text(analysis: Analysis, width: int = WIDTH) -> str:
    """Render `analysis` in the order of a report: what it came to, how, who, how much, where."""
    sections = [
        verdict_lines(analysis),
        _story_lines(analysis),
        wait_lines(analysis),
        lock_lines(analysis.locks, timed=analysis.timed),
        turn_lines(analysis.threads),
        fault_lines(analysis.faults, analysis.ebusy_retries),
        hypercall_lines(analysis.hypercalls),
        region_lines(analysis.region),
        _counts("events", analysis.events),
        stack_lines(analysis.verdict.stacks, analysis.verdict.threads) if analysis.verdict else [],
    ]
    lines = "\n\n".join("\n".join(lines) for lines in sections if lines).split("\n")
    # Titles and commands are for copying and stay whole; they stand before the first empty line.
    head = lines.index("") if "" in lines else len(lines)
    return "\n".join([*lines[:head], *(clip(line, width) for line in lines[head:])])


def verdict_lines(analysis: Analysis) -> list[str]:
    """Render the verdict and title, the command that runs it again, and what was run."""
    run, last = analysis.run, analysis.verdict
    lines = [title_line(last.verdict, last.title) if last else "verdict: unknown"]
    if analysis.note:
        lines.append(f"note: {analysis.note}")
    if run.command:
        lines.append(f"replay: {run.command}")
    lines.append(f"{run.scenario}  driver {run.driver}  strategy {run.strategy}  seed {run.seed}")
    clock = "no clock"
    if analysis.timed:
        ended = last.virtual_ns if last else None
        clock = "virtual time" if ended is None else f"{duration(ended)} of virtual time"
    lines.append(f"{analysis.steps:,} steps, {clock}, mshv-async {run.package_version}")
    if last is not None:
        lines.append(f"digest: {last.digest or 'none (real time)'}")
    return lines


def _story_lines(analysis: Analysis) -> list[str]:
    found = analysis.verdict.story if analysis.verdict else ()
    lines = [f"  {line}" for line in (*analysis.story, *(f"=> {line}" for line in found))]
    return ["story", *lines] if lines else []


def wait_lines(analysis: Analysis) -> list[str]:
    """Draw who waits for whom as the log ends: two threads side by side, else a line each."""
    told = [f"  {line}" for line in (analysis.verdict.waits if analysis.verdict else ())]
    waits = {wait.thread: wait for wait in analysis.waits}
    ring = cycle(waits)
    if len(ring) == 2:
        return ["waits in a cycle", *_two_columns(ring, analysis), *told]
    lines = [_wait_line(wait) for wait in analysis.waits]
    if not lines and not told:
        return []
    return ["waits in a cycle" if ring else "waits", *lines, *told]


def _wait_line(wait: Wait) -> str:
    holders = f" (held by {', '.join(wait.holders)})" if wait.holders else ""
    return f"  {wait.thread} -> {wait.lock}{holders}"


def _two_columns(ring: Sequence[str], analysis: Analysis) -> list[str]:
    waits = {wait.thread: wait for wait in analysis.waits}
    cells = []
    for thread in ring:
        holds = [f"holds {lock}" for lock in analysis.held.get(thread, ())]
        cells.append([thread, "-" * len(thread), *holds, f"waits for {waits[thread].lock}"])
    left, right = cells
    wide = max(len(cell) for cell in left) + 3
    rows = zip_longest(left, right, fillvalue="")
    return [f"  {a.ljust(wide)}{b}".rstrip() for a, b in rows]


def turn_lines(threads: Sequence[Turns]) -> list[str]:
    """Render what each thread did with its turns."""
    if not threads:
        return []
    rows: list[tuple[str, ...]] = [("thread", "steps", "longest aside", "retries")]
    rows += [(t.thread, str(t.steps), str(t.longest_aside), str(t.retries)) for t in threads]
    shown = rows[: ROWS_MAX + 1]
    rest = [f"  ({len(rows) - len(shown)} more)"] if len(rows) > len(shown) else []
    return [
        "threads (aside: steps of others while it waited for nothing known)",
        *table(shown),
        *rest,
    ]


def region_lines(region: RegionHistory | None) -> list[str]:
    """Render the history of the region around the fault."""
    if region is None:
        return []
    which = "gfn" if region.pages == 1 else "gfns"
    lines = [f"region around the fault: {which} {span(region.gfn, region.gfn + region.pages)}"]
    if region.left_out:
        lines.append(f"  ({region.left_out} earlier events left out)")
    wide = max(len(event.thread) for event in region.events)
    far = max(len(str(event.step)) for event in region.events)
    rows = [(e.thread, e.text, f"  {e.step:>{far}}  {e.thread:{wide}}  ") for e in region.events]
    folded = fold_repeats(
        rows,
        key=lambda row: row[:2],
        fold=lambda period, times: ("", f"  … the {period} above {times} times more …", ""),
    )
    return [*lines, *(f"{where}{text}" for _, text, where in folded)]


def fault_lines(faults: Faults, ebusy_retries: int) -> list[str]:
    """Render the faults with their latency percentiles, and the EBUSY retries."""
    retries = f"EBUSY retries: {ebusy_retries}"
    if not faults.count:
        return ["faults: none noted", retries]
    line = f"faults: {faults.count}"
    line += f", {faults.failed} failed" if faults.failed else ""
    line += f", {faults.unfinished} unfinished" if faults.unfinished else ""
    lines = [line]
    if faults.latency is not None:
        times = faults.latency
        values = (times.p50_ns, times.p90_ns, times.p99_ns, times.max_ns)
        rows = [("p50", "p90", "p99", "max"), tuple(duration(ns) for ns in values)]
        lines += table(rows)
    lines += ["  " + ", ".join(f"{actor} {n}" for actor, n in faults.by_actor.items())]
    return [*lines, retries]


def lock_lines(locks: Sequence[LockClass], *, timed: bool) -> list[str]:
    """Render acquisitions, waits and holds by lock class, in virtual time or in steps."""
    if not locks:
        return ["locks: none noted"]
    rows: list[tuple[str, ...]] = [
        ("lock class", "acquired", "contended", "wait min/avg/max", "hold min/avg/max")
    ]
    open_ends: list[str] = []
    for lock in locks:
        counts = (lock.lock_class, str(lock.acquired), str(lock.contended))
        rows.append((*counts, _spread(lock.wait, timed), _spread(lock.hold, timed)))
        if lock.still_held or lock.still_waiting:
            open_ends.append(
                f"  {lock.lock_class}: at the end {lock.still_held} held,"
                f" {lock.still_waiting} waiting"
            )
    unit = "virtual time" if timed else "steps"
    return [f"locks ({unit})", *table(rows), *open_ends]


def hypercall_lines(hypercalls: Sequence[Hypercalls]) -> list[str]:
    """Render calls, list elements done and refusals by hypercall."""
    if not hypercalls:
        return ["hypercalls: none noted"]
    rows: list[tuple[str, ...]] = [("hypercall", "calls", "reps", "refused")]
    for call in hypercalls:
        refused = {name: n for name, n in call.statuses.items() if name != "SUCCESS"}
        why = ", ".join(f"{n} {name}" for name, n in refused.items())
        rows.append((call.name, str(call.calls), str(call.reps), why or "0"))
    return ["hypercalls", *table(rows)]


def table(rows: Iterable[Sequence[str]], indent: str = "  ") -> list[str]:
    """Align `rows` of equal length: the first column to the left, the others to the right."""
    rows = [tuple(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines


def duration(ns: int) -> str:
    """Render virtual nanoseconds with three significant digits: `840 ns`, `1.52 us`, `2.00 s`."""
    for unit, size in _UNITS:
        if ns >= size:
            value = ns / size
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits}f} {unit}"
    return f"{ns} ns"


def _spread(spread: Spread | None, timed: bool) -> str:
    if spread is None:
        return "-"
    values = (spread.min, spread.avg, spread.max)
    return " / ".join(duration(n) if timed else str(n) for n in values)


def _counts(title: str, counts: dict[str, int]) -> list[str]:
    if not counts:
        return []
    shown = list(counts.items())[:ROWS_MAX]
    rows = [(name, str(n)) for name, n in shown]
    rest = list(counts.items())[ROWS_MAX:]
    if rest:
        rows.append((f"({len(rest)} more)", str(sum(n for _, n in rest))))
    return [title, *table(rows)]
