"""Writing a kept run as JSON Lines through structlog (formats.md 3).

Every run gets a logger of its own with its processors named here. structlog's global
configuration is neither read nor set, so that two runs, or a user's own logging, never meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from mshv_async.log.record import FieldValue, Record, RunHeader, RunVerdict, StepRecord

RUN_BEGIN = "run.begin"
RUN_END = "run.end"

# Every line has these four, in this order, before its own fields.
COMMON = ("t", "step", "actor", "event")

_encoder = msgspec.json.Encoder()


class _Lines:
    """The end of the chain: a file that takes one finished line at a time.

    structlog's own BytesLogger flushes each line and keeps a lock for each file in a global
    table. A run is written at once after its end, by one writer, and needs neither.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def msg(self, line: bytes) -> None:
        self._file.write(line + b"\n")


class RunLogger(structlog.BoundLoggerBase):
    """The logger of one run."""

    def event(
        self, event: str, t_ns: int | None, step: int, actor: str, fields: Mapping[str, object]
    ) -> None:
        """Write one line. A field that has the name of a common key gets a `_` at its end."""
        own = {key + "_" if key in COMMON else key: value for key, value in fields.items()}
        own.update(t=t_ns, step=step, actor=actor)
        args, _ = self._process_event("event", event, own)
        self._logger.msg(*args)


def run_logger(file: BinaryIO) -> RunLogger:
    """Return a fresh logger that writes to `file` and shares nothing with any other."""
    logger = structlog.wrap_logger(
        _Lines(file),
        processors=[_common_first, _render],
        wrapper_class=RunLogger,
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return cast(RunLogger, logger.bind())


def write_log(
    path: str | Path, header: RunHeader, records: Iterable[Record], verdict: RunVerdict
) -> None:
    """Write a whole run to `path`, replacing what is there.

    The first line describes the run, the last its verdict, all between are its records in order.
    Raises OSError if the file cannot be written.
    """
    timed = verdict.virtual_ns is not None
    with Path(path).open("wb") as file:
        log = run_logger(file)
        log.event(RUN_BEGIN, 0 if timed else None, 0, "", _filled(header))
        for record in records:
            if isinstance(record, StepRecord):
                fields = step_fields(record)
                log.event(record.label, record.t_ns, record.step, record.actor, fields)
            else:
                log.event(record.event, record.t_ns, record.step, record.actor, record.fields)
        # The count of steps is the line's own `step` too: one number, where readers look for it.
        log.event(RUN_END, verdict.virtual_ns, verdict.steps, "", _filled(verdict))


def _filled(line: RunHeader | RunVerdict) -> dict[str, object]:
    """Return the fields of a first or last line; those that may be unknown only if they are not."""
    fields = msgspec.structs.asdict(line)
    optional = line.__struct_fields__[-len(line.__struct_defaults__) :]
    return {k: v for k, v in fields.items() if k not in optional or v}


def step_fields(record: StepRecord) -> dict[str, FieldValue | list[FieldValue]]:
    """Return the fields of a step's line beyond the common ones; what is not set is left out.

    `lo` and `hi`: half-open range of the object's keys. `decision`: [label, value, bound].
    """
    fields: dict[str, FieldValue | list[FieldValue]] = {}
    if record.object:
        fields["object"] = record.object
    if record.hi > record.lo:
        fields["lo"] = record.lo
        fields["hi"] = record.hi
    fields["write"] = record.write
    if record.preempted:
        fields["preempted"] = True
    if record.decision is not None:
        fields["decision"] = list(record.decision)
    if record.depends is not None:
        fields["depends"] = record.depends
    return fields


def _common_first(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    ordered = {key: event_dict.pop(key) for key in COMMON}
    ordered.update(event_dict)
    return ordered


def _render(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> bytes:
    return _encoder.encode(event_dict)
