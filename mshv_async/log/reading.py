"""Reading logs back, one event at a time (formats.md 3).

A log may be long and may be cut short by a crash: memory does not grow with it, and a last line
that was cut is left out with a note. Anything else that is no log is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from mshv_async.log.record import LOG_SCHEMA, FieldValue, LogError, RunHeader, RunVerdict
from mshv_async.log.setup import RUN_BEGIN, RUN_END

# Lines are a few hundred bytes. The bound keeps a file of another kind from being read whole.
LINE_BYTES_MAX = 1 << 20

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Loose: TypeAlias = FieldValue | float | list[FieldValue] | None


class LogEvent(msgspec.Struct, frozen=True, gc=False):
    """One line of a log between the first and the last.

    Beyond the common keys only the fields that analysis asks for are decoded; a user's note may
    use the same names for other things, hence the loose types.
    """

    t: int | None
    step: int
    actor: str
    event: str
    ret: Loose = None
    vp: Loose = None
    type: Loose = None
    code: Loose = None
    start: Loose = None
    end: Loose = None
    done: Loose = None
    status: Loose = None
    lock: Loose = None
    lock_class: Loose = None
    object: Loose = None
    lo: Loose = None
    hi: Loose = None
    write: Loose = None
    preempted: Loose = None
    decision: Loose = None
    gfn: Loose = None
    vpn: Loose = None
    pages: Loose = None
    reps: Loose = None
    bytes: Loose = None
    op: Loose = None
    failed: Loose = None
    ioctl: Loose = None
    access: Loose = None
    event_type: Loose = None
    site: Loose = None
    region: Loose = None
    mm: Loose = None


def is_step(event: LogEvent) -> bool:
    """Say whether a line is a step's and no note's: those have `write`, and none has `vpn`."""
    return event.write is not None and event.vpn is None


class _First(RunHeader, frozen=True, kw_only=True):
    t: int | None
    event: str


class _Last(RunVerdict, frozen=True, kw_only=True):
    t: int | None


class LogReader:
    """A log being read: iterate for its events, then ask for the verdict.

    `header` and `timed` are known from the start. After the iteration `verdict` is the last
    line, or None, and `note` says where a log without one ends.
    """

    def __init__(self, path: str | Path) -> None:
        """Open `path` and read its first line. Raises LogError if it is no log, or OSError."""
        self.path = Path(path)
        self.verdict: RunVerdict | None = None
        self.note: str | None = None
        with self.path.open("rb") as file:
            first = file.readline(LINE_BYTES_MAX)
        self.header, self.timed = self._first(first)

    def __iter__(self) -> Iterator[LogEvent]:
        """Yield the events in order. Raises LogError at a damaged line that is not the last."""
        for event, _ in self.with_lines():
            yield event

    def with_lines(self) -> Iterator[tuple[LogEvent, bytes]]:
        """Yield the events as iteration does, each with its whole line: all its fields."""
        decoder = msgspec.json.Decoder(LogEvent)
        last = 0
        for number, line, final in self._lines():
            try:
                event = decoder.decode(line)
            except UNREADABLE:
                if not final:
                    raise self.damaged(number) from None
                self.note = f"line {number} is cut short and left out: the log ends at step {last}"
                return
            if event.event == RUN_END:
                self.verdict = self._last(line, number)
                return
            last = event.step
            yield event, line
        self.note = f"the log ends without a verdict at step {last}"

    def _lines(self) -> Iterator[tuple[int, bytes, bool]]:
        """Yield (number, line, is the file's last) from the second line on."""
        with self.path.open("rb") as file:
            file.readline(LINE_BYTES_MAX)
            line = file.readline(LINE_BYTES_MAX)
            number = 2
            while line:
                after = file.readline(LINE_BYTES_MAX)
                yield number, line, not after
                line = after
                number += 1

    def _first(self, line: bytes) -> tuple[RunHeader, bool]:
        if not line:
            raise LogError(f"{self.path}: is empty, no log")
        try:
            first = msgspec.json.decode(line, type=_First)
        except UNREADABLE:
            raise LogError(
                f"{self.path}: is no log: its first line does not describe a run"
            ) from None
        if first.event != RUN_BEGIN or first.schema != LOG_SCHEMA:
            raise LogError(f"{self.path}: is no log of schema {LOG_SCHEMA}: {first.schema!r}")
        fields = {name: getattr(first, name) for name in RunHeader.__struct_fields__}
        return RunHeader(**fields), first.t is not None

    def _last(self, line: bytes, number: int) -> RunVerdict:
        try:
            last = msgspec.json.decode(line, type=_Last)
        except UNREADABLE:
            raise self.damaged(number) from None
        fields = {name: getattr(last, name) for name in RunVerdict.__struct_fields__}
        return RunVerdict(**fields)

    def damaged(self, number: int) -> LogError:
        """Return the error that tells of a line that cannot be read."""
        return LogError(f"{self.path}: line {number} is no log event")
