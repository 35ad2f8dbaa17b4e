"""Where two logs part: the first event that differs, and what each thread was doing there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

import msgspec

from mshv_async.log.columns import WIDTH, clip
from mshv_async.log.reading import UNREADABLE, LogEvent, LogReader, is_step
from mshv_async.log.record import RunHeader
from mshv_async.log.report import folded_stack
from mshv_async.sim.spans import span

BEFORE = 3
AFTER = 6  # steps of each


class Doing(msgspec.Struct, frozen=True):
    """What a thread was doing where two runs part.

    `op`: the operation of its program (empty: none known); `step`, `last`: its last step (0,
    empty: none yet); `pending`: the operation that it stood at (empty: it takes no further step);
    `held`: its locks, in the order taken; `functions`: those of the driver that it was in,
    innermost first, known where a run could be played again.
    """

    thread: str
    op: str
    step: int
    last: str
    pending: str = ""
    held: list[str] = []
    functions: list[str] = []


class Side(msgspec.Struct, frozen=True):
    """One of the two logs at the difference; `event` None: it ends there; `next`: steps to come."""

    file: str
    run: RunHeader
    line: int
    event: dict[str, object] | None
    text: str
    verdict: str | None
    note: str | None
    next: list[str] = []


class Difference(msgspec.Struct, frozen=True):
    """What two logs have in common, and where they part.

    `same`: all events and the verdicts are equal. `common`: equal events, `steps` of them steps;
    `before` are the last of them, `doing` the threads as these left them.
    """

    same: bool
    common: int
    steps: int
    before: list[str]
    doing: list[Doing]
    a: Side
    b: Side


def difference(a: str | Path, b: str | Path) -> Difference:
    """Compare two logs event by event, but for `depends`. Raises LogError and OSError."""
    logs = (LogReader(a), LogReader(b))
    threads = _Threads()
    before: deque[LogEvent] = deque(maxlen=BEFORE)
    common = 0
    parted: list[tuple[LogEvent, bytes] | None] = [None, None]
    after: list[list[LogEvent]] = [[], []]
    streams = [log.with_lines() for log in logs]
    for one, other in zip_longest(*streams):
        if one is None or other is None or not _same_event(one, other):
            parted = [one, other]
            after = [threads.go_on(*rest) for rest in zip(parted, streams, strict=True)]
            break
        common += 1
        before.append(one[0])
        threads.follow(one[0])
    sides = [
        _side(log, common, found, steps)
        for log, found, steps in zip(logs, parted, after, strict=True)
    ]
    same = parted == [None, None] and logs[0].verdict == logs[1].verdict
    return Difference(
        same=same,
        common=common,
        steps=threads.steps,
        before=[event_text(event) for event in before],
        doing=threads.doing(),
        a=sides[0],
        b=sides[1],
    )


def _same_event(one: tuple[LogEvent, bytes], other: tuple[LogEvent, bytes]) -> bool:
    """Say whether two lines tell the same; `depends` was worked out later, or was not."""
    if one[1] == other[1] or not (is_step(one[0]) and is_step(other[0])):
        return one[1] == other[1]
    try:
        return _fields(one) == _fields(other)
    except UNREADABLE:  # told with the line's number where the two part
        return False


def _fields(found: tuple[LogEvent, bytes]) -> dict[str, object]:
    fields = msgspec.json.decode(found[1], type=dict[str, object])
    if is_step(found[0]):
        fields.pop("depends", None)
    return fields


class _Threads:
    """What each thread is doing, as the common events tell it; and what it does next."""

    def __init__(self) -> None:
        self.steps = 0
        self.ops: dict[str, str] = {}
        self.last: dict[str, LogEvent] = {}
        self.held: dict[str, list[str]] = {}
        self.pending: dict[str, LogEvent] = {}

    def follow(self, event: LogEvent) -> None:
        held = self.held.setdefault(event.actor, [])
        match event.event:
            case "op.begin":
                self.ops[event.actor] = str(event.op)
            case "op.end":
                self.ops.pop(event.actor, None)
            case "lock.acquire":
                held.append(str(event.lock))
            case "lock.release" if event.lock in held:
                held.remove(str(event.lock))
        if is_step(event):
            self.steps += 1
            self.last[event.actor] = event

    def go_on(
        self, first: tuple[LogEvent, bytes] | None, rest: Iterable[tuple[LogEvent, bytes]]
    ) -> list[LogEvent]:
        """Read one log to its end, for the verdict; return its next steps.

        A thread's next step begins with the operation at which it stands, in whichever log.
        """
        steps: list[LogEvent] = []
        if first is not None:
            self._next(first[0], steps)
        for event, _ in rest:
            self._next(event, steps)
        return steps

    def _next(self, event: LogEvent, steps: list[LogEvent]) -> None:
        if is_step(event):
            event = msgspec.structs.replace(event, preempted=None)
            self.pending.setdefault(event.actor, msgspec.structs.replace(event, decision=None))
            if len(steps) < AFTER:
                steps.append(event)

    def doing(self) -> list[Doing]:
        return [
            Doing(
                thread=thread,
                op=self.ops.get(thread, ""),
                step=self.last[thread].step if thread in self.last else 0,
                last=_what(self.last[thread]) if thread in self.last else "",
                pending=_what(self.pending[thread]) if thread in self.pending else "",
                held=self.held.get(thread, []),
            )
            for thread in dict.fromkeys((*self.last, *self.pending))
        ]


def _side(
    log: LogReader, common: int, found: tuple[LogEvent, bytes] | None, steps: list[LogEvent]
) -> Side:
    try:
        fields = None if found is None else _fields(found)
    except UNREADABLE:  # the reader skips fields that it does not know
        raise log.damaged(common + 2) from None
    return Side(
        file=str(log.path),
        run=log.header,
        line=common + 2,
        event=fields,
        text="(the log ends)" if fields is None else _fields_text(fields),
        verdict=(log.verdict.title or log.verdict.verdict) if log.verdict else None,
        note=log.note,
        next=[event_text(event) for event in steps],
    )


def _fields_text(fields: dict[str, object]) -> str:
    """Render a line with all its fields, those of a step short."""
    event = msgspec.convert(fields, LogEvent)
    known = event.__struct_fields__
    more = [f"{name}={value}" for name, value in fields.items() if name not in known]
    t_ns = [] if event.t is None else [f"at {event.t} ns"]
    return " ".join([event_text(event), *more, *t_ns])


def difference_text(found: Difference, width: int = WIDTH) -> str:
    """Render a difference: both runs, the last equal events, how each goes on, the threads.

    Only the two columns keep to `width`.
    """
    runs = [f"{name}: {_run_text(side)}" for name, side in (("A", found.a), ("B", found.b))]
    if found.same:
        return "\n".join([*runs, f"the same: {found.common:,} events and the verdict"])
    blocks = [runs, [f"the first {found.common:,} events are equal; then they differ"]]
    rows = [f"     {text}" for text in found.before]
    blocks.append([*rows, f"  A: {found.a.text}", f"  B: {found.b.text}"])
    if found.a.next or found.b.next:
        blocks.append(_side_by_side(found.a.next, found.b.next, width))
    if found.doing:
        wide = max(len(doing.thread) for doing in found.doing)
        lines = [line for doing in found.doing for line in _doing_lines(doing, wide)]
        blocks.append(["what each thread was doing", *lines])
    return "\n\n".join("\n".join(block) for block in blocks)


def _side_by_side(a: list[str], b: list[str], width: int) -> list[str]:
    half = (width - 3) // 2
    rows = zip_longest(["A", *(a or ["(no step)"])], ["B", *(b or ["(no step)"])], fillvalue="")
    return [f"{clip(x, half).ljust(half)} | {clip(y, half)}".rstrip() for x, y in rows]


def _doing_lines(doing: Doing, wide: int) -> list[str]:
    op = f"in `{doing.op}`, " if doing.op else ""
    last = f"last at step {doing.step}: {doing.last}" if doing.step else "no step yet"
    about = [f"stands at {doing.pending}" if doing.pending else "takes no further step"]
    if doing.held:
        about.append(f"holds {', '.join(doing.held)}")
    if doing.functions:
        about.append(f"in {folded_stack(doing.functions)}")
    return [f"  {doing.thread.ljust(wide)}  {op}{last}", f"  {' ' * wide}  {'; '.join(about)}"]


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
