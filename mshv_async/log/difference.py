"""Where two logs part: the first event that differs, and what each thread was doing there."""

from __future__ import annotations

from collections import deque
from itertools import zip_longest
from pathlib import Path

import msgspec

from mshv_async.log.reading import LogEvent, LogReader, is_step
from mshv_async.log.record import RunHeader
from mshv_async.sim.spans import span

BEFORE = 3


class Doing(msgspec.Struct, frozen=True):
    """What a thread was doing: its operation (empty: none known) and its last step."""

    thread: str
    op: str
    step: int
    last: str


class Side(msgspec.Struct, frozen=True):
    """One of the two logs at the difference; `event` None: it ends there."""

    file: str
    run: RunHeader
    line: int
    event: dict[str, object] | None
    text: str
    verdict: str | None
    note: str | None


class Difference(msgspec.Struct, frozen=True):
    """What two logs have in common, and where they part.

    `same`: all events and the verdicts are equal. `common`: equal events; `before` are the last
    of them, `doing` the threads as these left them.
    """

    same: bool
    common: int
    before: list[str]
    doing: list[Doing]
    a: Side
    b: Side


def difference(a: str | Path, b: str | Path) -> Difference:
    """Compare two logs event by event. Raises LogError and OSError."""
    logs = (LogReader(a), LogReader(b))
    before: deque[LogEvent] = deque(maxlen=BEFORE)
    ops: dict[str, str] = {}
    last: dict[str, LogEvent] = {}
    common = 0
    parted: list[tuple[LogEvent, bytes] | None] = [None, None]
    streams = [log.with_lines() for log in logs]
    for one, other in zip_longest(*streams):
        if one is None or other is None or one[1] != other[1]:
            parted = [one, other]
            for stream in streams:  # to the end: verdicts and notes
                deque(stream, maxlen=0)
            break
        common += 1
        before.append(one[0])
        _follow(one[0], ops, last)
    sides = [_side(log, common, found) for log, found in zip(logs, parted, strict=True)]
    same = parted == [None, None] and logs[0].verdict == logs[1].verdict
    return Difference(
        same=same,
        common=common,
        before=[event_text(event) for event in before],
        doing=[
            Doing(thread, ops.get(thread, ""), event.step, _what(event))
            for thread, event in last.items()
        ],
        a=sides[0],
        b=sides[1],
    )


def _follow(event: LogEvent, ops: dict[str, str], last: dict[str, LogEvent]) -> None:
    if event.event == "op.begin":
        ops[event.actor] = str(event.op)
    elif event.event == "op.end":
        ops.pop(event.actor, None)
    if is_step(event):
        last[event.actor] = event


def _side(log: LogReader, common: int, found: tuple[LogEvent, bytes] | None) -> Side:
    fields = None if found is None else msgspec.json.decode(found[1], type=dict[str, object])
    return Side(
        file=str(log.path),
        run=log.header,
        line=common + 2,
        event=fields,
        text="(the log ends)" if fields is None else _fields_text(fields),
        verdict=(log.verdict.title or log.verdict.verdict) if log.verdict else None,
        note=log.note,
    )


def _fields_text(fields: dict[str, object]) -> str:
    """Render a line with all its fields, those of a step short."""
    event = msgspec.convert(fields, LogEvent)
    known = event.__struct_fields__
    more = [f"{name}={value}" for name, value in fields.items() if name not in known]
    t_ns = [] if event.t is None else [f"at {event.t} ns"]
    return " ".join([event_text(event), *more, *t_ns])


def difference_text(found: Difference) -> str:
    """Render a difference: both runs, the last equal events, the two that differ, the threads."""
    runs = [f"{name}: {_run_text(side)}" for name, side in (("A", found.a), ("B", found.b))]
    if found.same:
        return "\n".join([*runs, f"the same: {found.common:,} events and the verdict"])
    blocks = [runs, [f"the first {found.common:,} events are equal; then they differ"]]
    rows = [f"     {text}" for text in found.before]
    blocks.append([*rows, f"  A: {found.a.text}", f"  B: {found.b.text}"])
    if found.doing:
        wide = max(len(doing.thread) for doing in found.doing)
        lines = [
            f"  {d.thread.ljust(wide)}  {f'in `{d.op}`, ' if d.op else ''}"
            f"last at step {d.step}: {d.last}"
            for d in found.doing
        ]
        blocks.append(["what each thread was doing", *lines])
    return "\n\n".join("\n".join(block) for block in blocks)


def _run_text(side: Side) -> str:
    run = side.run
    text = f"{side.file}  {run.scenario}  driver {run.driver}  seed {run.seed}"
    text += f"  -> {side.verdict or 'no verdict'}"
    return f"{text}\n   note: {side.note}" if side.note else text


def event_text(event: LogEvent) -> str:
    """Render an event: step, thread, what, with which fields."""
    return f"step {event.step}  {event.actor}  {_what(event)}"


def _what(event: LogEvent) -> str:
    fields = {
        name: value
        for name in event.__struct_fields__
        if (value := getattr(event, name)) is not None
    }
    for name in ("t", "step", "actor", "event"):
        fields.pop(name, None)
    words = [event.event]
    if is_step(event):
        fields.pop("write")
        words.append(str(fields.pop("object", "")))
        lo, hi = fields.pop("lo", None), fields.pop("hi", None)
        if isinstance(lo, int) and isinstance(hi, int):
            words.append(span(lo, hi))
    words += [f"{name}={value}" for name, value in fields.items()]
    return " ".join(word for word in words if word)
