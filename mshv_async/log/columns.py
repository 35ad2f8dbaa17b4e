"""An interleaving in columns, one for each thread, as kernel developers write races.

Every step stands in its thread's column, in order from top to bottom, on one line that is cut
rather than wrapped. A guest processor and an engine worker stand in the column of the VMM thread
that they serve: one column is what one processor of the host does.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from mshv_async.log.record import StepRecord
from mshv_async.log.repeats import fold_repeats
from mshv_async.sim.spans import span

# What a file or a pipe gets; a terminal gets its own width, but no less than four columns need.
WIDTH = 100
WIDTH_MIN = 60
THREADS_MAX = 4
GAP = 2

# A short interleaving is shown whole; a longer one folds what does not matter.
WHOLE_UP_TO = 30
# Fewer steps than this take as much room folded as shown.
FOLD_FROM = 3
# Beyond this the middle is left out: what went wrong stands at the end, how it began at the top.
ROWS_HEAD = 60
ROWS_TAIL = 140

# Begins the last entry, which is no step: what the execution came to.
OUTCOME = "!! "
PREEMPTED = ">"
LEGEND = f"{PREEMPTED} here the scheduler passed over a thread that could have gone on"

Predicate: TypeAlias = Callable[[StepRecord], bool]


@dataclass(frozen=True, slots=True)
class _Row:
    """One line to be: `column` None spans all columns; `texts` from the longest to the shortest."""

    column: str | None
    texts: tuple[str, ...]
    step: str = ""
    mark: str = " "
    important: bool = True


def terminal_width() -> int:
    """Return the width of the terminal that standard output is, 100 where it is none."""
    if not sys.stdout.isatty():
        return WIDTH
    return max(WIDTH_MIN, shutil.get_terminal_size((WIDTH, 24)).columns)


def column_of(actor: str) -> str:
    """Return the thread whose column `actor` stands in: `lp-X` serves X, `guestN` runs for vpN."""
    name = actor
    while name.startswith("lp-"):
        name = name.removeprefix("lp-")
    number = name.removeprefix("guest")
    return f"vp{number}" if number != name and number.isdecimal() else name


def columns(
    steps: Sequence[StepRecord],
    *,
    width: int = WIDTH,
    keep: Iterable[str] = (),
    important: Predicate | None = None,
    involved: Collection[str] = (),
    objects: Collection[str] = (),
    loop: tuple[int, int] | None = None,
) -> list[str]:
    """Render `steps` in at most four columns; no line is longer than `width` characters.

    Threads in `keep` come before others when there are more than four; of the rest those with the
    most steps that matter stay, and a last line names those left out. `important` says which
    steps matter (default: `matters(steps, involved, objects)`); long runs of others are folded.
    `loop`: the steps from the first number to before the second repeat for ever, and all matter.
    That a thread starts and takes a message of its own column is not shown: step numbers have
    gaps there.
    """
    if not steps:
        return ["(no steps)"]
    if important is None:
        important = matters(steps, involved, objects)
    if loop is not None:
        important = _or_in(range(*loop), important)
    # What a failure does not depend on is folded however short.
    sliced = any(record.depends is not None for record in steps)
    shown = _columns_shown(steps, [column_of(actor) for actor in keep], important)
    told = _without_plumbing(steps)
    told = [record for record in told if column_of(record.actor) in shown]
    first = next((n for n, r in enumerate(told) if loop and r.step >= loop[0]), len(told))
    rows = [_row(record, important) for record in told[:first]]
    if sliced:
        rows = _folded(rows, 1)
    rows = fold_repeats(rows, key=lambda row: (row.column, row.texts), fold=_repeated)
    rows = rows if sliced else _folded(rows, FOLD_FROM)
    if loop is not None:
        rows += _turn([_row(record, important) for record in told[first:]], loop)
    rows = _bounded(rows)
    lines = _render(rows, shown, width)
    if any(row.mark == PREEMPTED for row in rows):
        lines.append(clip(LEGEND, width))
    hidden = Counter(column_of(record.actor) for record in steps)
    left_out = [f"{name} ({_steps(n)})" for name, n in hidden.items() if name not in shown]
    if left_out:
        lines.append(clip("not shown: " + ", ".join(left_out), width))
    return lines


def _or_in(numbers: range, important: Predicate) -> Predicate:
    return lambda record: record.step in numbers or important(record)


def _turn(rows: list[_Row], loop: tuple[int, int]) -> list[_Row]:
    """Return one turn of what repeats for ever, a row that says so, and what it came to."""
    turn = [row for row in rows if not row.texts[0].startswith(OUTCOME)]
    told = fold_repeats(turn, key=lambda row: (row.column, row.texts), fold=_repeated)
    n = loop[1] - loop[0]
    what = "the step above repeats" if n == 1 else f"the {n} steps above repeat"
    return [*told, _Row(None, (f"… {what} for ever …",)), *rows[len(turn) :]]


def matters(
    steps: Sequence[StepRecord], involved: Collection[str] = (), objects: Collection[str] = ()
) -> Predicate:
    """Return the default predicate: what another column can notice, and where threads stand.

    A step matters if its object is written by one column and touched by another, if it was a
    preemption or the step before one, if a failure was chosen in it, or if it is the last of its
    column. In a short or one-column interleaving every step matters. Where the threads that are
    `involved` in the finding are known, steps of others count only for what those can notice;
    steps on the finding's own `objects` always do. Where it is known which steps the finding
    depends on, these are the ones.
    """
    if any(record.depends is not None for record in steps):
        return lambda record: record.depends is True
    if len({column_of(record.actor) for record in steps}) == 1:
        return lambda _: True
    if involved:
        told = _matters_to({column_of(actor) for actor in involved}, steps)
        gfns = [int(name.removeprefix("gfn "), 16) for name in objects if name.startswith("gfn 0x")]
        return lambda record: (
            record.object in objects
            or (record.object.endswith(".slat") and any(_covers(record, gfn) for gfn in gfns))
            or told(record)
        )
    if len(steps) <= WHOLE_UP_TO:
        return lambda _: True
    shared = _shared_objects(steps)
    ends = _ends(steps)
    return lambda record: (
        record.object in shared or record.step in ends or _choice(record) is not None
    )


def _covers(record: StepRecord, gfn: int) -> bool:
    return record.lo <= gfn < max(record.hi, record.lo + 1)


def _matters_to(involved: Collection[str], steps: Sequence[StepRecord]) -> Predicate:
    """Return the predicate for a finding whose threads are known."""
    noticed = {r.object for r in steps if r.object and column_of(r.actor) in involved}
    shared = noticed & set(_shared_objects(steps))
    ends = _ends(steps)
    short = len(steps) <= WHOLE_UP_TO
    return lambda record: (
        record.object in shared
        or record.step in ends
        or _choice(record) is not None
        or (short and column_of(record.actor) in involved)
    )


def _ends(steps: Sequence[StepRecord]) -> set[int]:
    """Return the last step of each column, and those at preemptions."""
    ends = set({column_of(record.actor): record.step for record in steps}.values())
    for before, after in pairwise(steps):
        if after.preempted:
            ends.update((before.step, after.step))
    return ends


def _without_plumbing(steps: Sequence[StepRecord]) -> list[StepRecord]:
    """Leave out starts of threads, and mailboxes that only one column uses.

    So are replies of hypercalls on which the finding is known not to depend.
    """
    shared = _shared_objects([r for r in steps if r.label.startswith("mailbox.")])
    last = steps[-1]
    return [
        record
        for record in steps
        if record.preempted
        or record is last
        or not (
            record.label == "thread.start"
            or (record.label.startswith("mailbox.") and record.object not in shared)
            or (record.depends is False and _is_reply(record.label))
        )
    ]


def _is_reply(label: str) -> bool:
    return label.startswith("hypercall.") and not label.endswith(".rep")


def _shared_objects(steps: Sequence[StepRecord]) -> Collection[str]:
    users: dict[str, set[str]] = {}
    written: set[str] = set()
    for record in steps:
        if record.object:
            users.setdefault(record.object, set()).add(column_of(record.actor))
            if record.write:
                written.add(record.object)
    return {name for name, who in users.items() if len(who) > 1 and name in written}


def _columns_shown(
    steps: Sequence[StepRecord], keep: Sequence[str], important: Predicate
) -> list[str]:
    """Return the columns to show, in the order in which they first step."""
    weight: dict[str, list[int]] = {}
    for record in steps:
        counts = weight.setdefault(column_of(record.actor), [0, 0])
        counts[0] += important(record)
        counts[1] += 1
    wanted = [name for name in dict.fromkeys(keep) if name in weight]
    rest = [name for name in weight if name not in wanted]
    rest.sort(key=lambda name: weight[name], reverse=True)
    chosen = (wanted + rest)[:THREADS_MAX]
    return [name for name in weight if name in chosen]


def _row(record: StepRecord, important: Predicate) -> _Row:
    return _Row(
        column=column_of(record.actor),
        texts=step_texts(record),
        step=str(record.step),
        mark=PREEMPTED if record.preempted else " ",
        important=important(record),
    )


def step_texts(record: StepRecord) -> tuple[str, ...]:
    """Return a step as text, longest first: label, object, range, and a choice that was taken.

    A range of one key is that key in hex, a longer one `first-last`; those of an address space are
    page numbers (vpn).
    """
    keys = ""
    if record.hi > record.lo:
        keys = span(record.lo, record.hi)
        if record.object.startswith("mm"):
            keys = f"vpn {keys}"
    choice = _choice(record) or ""
    short = record.label.partition(".")[2] if record.label.count(".") > 1 else record.label
    forms = (
        (record.label, record.object, keys, choice),
        (short, record.object, keys, choice),
        (short, keys or record.object, choice),
        (short, keys or record.object, choice and f"[choice {choice.rpartition(' ')[2]}"),
    )
    texts = (" ".join(part for part in form if part) for form in forms)
    return tuple(dict.fromkeys(_one_line(text) for text in texts))


def _choice(record: StepRecord) -> str | None:
    """Return the data choice of a step; 0 is the ordinary case of every choice and not shown."""
    if record.decision is None or record.decision[1] == 0:
        return None
    label, value, _ = record.decision
    return f"[{label} = {value}]"


def _repeated(period: int, times: int) -> _Row:
    return _Row(None, (f"… the {_steps(period)} above {times} times more …",))


def _folded(rows: Sequence[_Row], fold_from: int) -> list[_Row]:
    """Replace each run of so many unimportant rows by one row that counts them."""
    result: list[_Row] = []
    run: list[_Row] = []
    for row in [*rows, None]:
        if row is not None and not row.important:
            run.append(row)
            continue
        result.extend(run if len(run) < fold_from else [_fold(run)])
        run = []
        if row is not None:
            result.append(row)
    return result


def _fold(run: Sequence[_Row]) -> _Row:
    counts = Counter(row.column for row in run)
    if len(counts) == 1:
        return _Row(run[0].column, (f"… {_steps(len(run))} …",))
    each = ", ".join(f"{column} {n}" for column, n in counts.items())
    return _Row(None, (f"… {_steps(len(run))}: {each} …",))


def _bounded(rows: list[_Row]) -> list[_Row]:
    middle = len(rows) - ROWS_HEAD - ROWS_TAIL
    if middle < FOLD_FROM:
        return rows
    gap = _Row(None, (f"… {middle} lines left out …",))
    return [*rows[:ROWS_HEAD], gap, *rows[-ROWS_TAIL:]]


def _render(rows: Sequence[_Row], shown: Sequence[str], width: int) -> list[str]:
    gutter = max(len(row.step) for row in rows) + 2
    widths = _widths(rows, shown, width - gutter - GAP * (len(shown) - 1))
    starts = dict.fromkeys(shown, gutter)
    for left, right in pairwise(shown):
        starts[right] = starts[left] + widths[left] + GAP
    lines = [
        _at_starts({name: clip(name, widths[name]) for name in shown}, starts),
        _at_starts({name: "-" * min(len(name), widths[name]) for name in shown}, starts),
    ]
    for row in rows:
        margin = row.step.rjust(gutter - 2) + row.mark + " "
        if row.column is None:
            lines.append(clip(margin + row.texts[0], width))
        else:
            text = _fitting(row.texts, widths[row.column])
            lines.append(margin + " " * (starts[row.column] - gutter) + text)
    return lines


def _at_starts(texts: dict[str, str], starts: dict[str, int]) -> str:
    line = ""
    for name, text in texts.items():
        line = line.ljust(starts[name]) + text
    return line


def _widths(rows: Sequence[_Row], shown: Sequence[str], room: int) -> dict[str, int]:
    """Give each column what its longest text needs; where room lacks, cut the widest alike."""
    needs = {name: len(name) for name in shown}
    for row in rows:
        if row.column is not None:
            needs[row.column] = max(needs[row.column], len(row.texts[0]))
    left = room
    widths: dict[str, int] = {}
    by_need = sorted(shown, key=lambda name: needs[name])
    for position, name in enumerate(by_need):
        widths[name] = max(1, min(needs[name], left // (len(by_need) - position)))
        left -= widths[name]
    return widths


def _fitting(texts: Sequence[str], width: int) -> str:
    for text in texts:
        if len(text) <= width:
            return text
    return clip(texts[-1], width)


def clip(text: str, width: int) -> str:
    """Cut a text to `width` characters, with a mark where something is missing."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _one_line(text: str) -> str:
    """Keep a name that a user chose from breaking the columns."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _steps(n: int) -> str:
    return "1 step" if n == 1 else f"{n} steps"
