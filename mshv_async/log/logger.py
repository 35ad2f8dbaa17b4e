"""The logger of one run, by structlog.

Every run gets a logger of its own with its processors named here. structlog's global
configuration is neither read nor set, so that two runs, or a user's own logging, never meet.
structlog loads rich if it is there: so this module is imported when a log is written, not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

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


def _common_first(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    ordered = {key: event_dict.pop(key) for key in COMMON}
    ordered.update(event_dict)
    return ordered


def _render(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> bytes:
    return _encoder.encode(event_dict)
