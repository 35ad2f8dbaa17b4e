"""An analysis as text: short tables, numbers to the right, times in readable units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mshv_async.log.analysis import Analysis, Faults, Hypercalls, LockClass, Spread

# The kinds and threads beyond these are summed up in one line.
ROWS_MAX = 20

_UNITS = (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000))


def analysis_text(analysis: Analysis) -> str:
    """Render all of `analysis`, one section after another, ending in the verdict."""
    run = analysis.run
    clock = "virtual time" if analysis.timed else "no clock"
    head = [
        f"{run.scenario}  driver {run.driver}  strategy {run.strategy}  seed {run.seed}",
        f"{analysis.steps} steps, {clock}, mshv-async {run.package_version}",
    ]
    sections = [
        head,
        _counts("events", analysis.events),
        _counts("threads", {name: n for name, n in analysis.actors.items() if name}),
        fault_lines(analysis.faults, analysis.ebusy_retries),
        lock_lines(analysis.locks, timed=analysis.timed),
        hypercall_lines(analysis.hypercalls),
        verdict_lines(analysis),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


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
    """Render acquisitions and waits by lock class; with a clock also how long they took."""
    if not locks:
        return ["locks: none noted"]
    head: tuple[str, ...] = ("lock class", "taken", "waits")
    head += ("wait min/avg/max", "hold min/avg/max") if timed else ()
    rows: list[tuple[str, ...]] = [head]
    open_ends: list[str] = []
    for lock in locks:
        row: tuple[str, ...] = (lock.lock_class, str(lock.acquisitions), str(lock.waits))
        rows.append((*row, _spread(lock.wait), _spread(lock.hold)) if timed else row)
        if lock.still_held or lock.still_waiting:
            open_ends.append(
                f"  {lock.lock_class}: at the end {lock.still_held} held,"
                f" {lock.still_waiting} waiting"
            )
    return ["locks", *table(rows), *open_ends]


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


def verdict_lines(analysis: Analysis) -> list[str]:
    """Render the verdict, and the note of a log that was cut short."""
    note = [f"note: {analysis.note}"] if analysis.note else []
    last = analysis.verdict
    if last is None:
        return [*note, "verdict: unknown"]
    what = last.title or last.verdict
    lines = [*note, f"verdict: {what}", f"digest: {last.digest or 'none (real time)'}"]
    if last.virtual_ns is not None:
        lines.append(f"virtual time: {duration(last.virtual_ns)}")
    return lines


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


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return " / ".join(duration(ns) for ns in (spread.min_ns, spread.avg_ns, spread.max_ns))


def _counts(title: str, counts: dict[str, int]) -> list[str]:
    if not counts:
        return []
    shown = list(counts.items())[:ROWS_MAX]
    rows = [(name, str(n)) for name, n in shown]
    rest = list(counts.items())[ROWS_MAX:]
    if rest:
        rows.append((f"({len(rest)} more)", str(sum(n for _, n in rest))))
    return [title, *table(rows)]
