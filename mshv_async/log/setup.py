"""Writing a kept run as JSON Lines through structlog (formats.md 3)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from mshv_async.log.record import FieldValue, Record, RunHeader, RunVerdict, StepRecord

RUN_BEGIN = "run.begin"
RUN_END = "run.end"


def write_log(
    path: str | Path, header: RunHeader, records: Iterable[Record], verdict: RunVerdict
) -> None:
    """Write a whole run to `path`, replacing what is there.

    The first line describes the run, the last its verdict, all between are its records in order.
    Raises OSError if the file cannot be written.
    """
    from mshv_async.log.logger import run_logger  # noqa: PLC0415 - it loads structlog and rich

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
