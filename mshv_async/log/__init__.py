"""What is kept of a run: logs as JSON Lines, their analysis, columns and reports.

`write_log` writes a run that is kept, `analyze` reads one back and counts it up, `columns` lays
an interleaving out with one column for each thread, `report` tells a finding. The records that
they work on are in `record`. Nothing here runs during an execution.
"""

from mshv_async.log.analysis import Analysis, analyze
from mshv_async.log.columns import column_of, columns, matters, terminal_width
from mshv_async.log.difference import Difference, difference, difference_text
from mshv_async.log.reading import LogEvent, LogReader
from mshv_async.log.record import (
    LOG_SCHEMA,
    Finding,
    LogError,
    NoteRecord,
    Record,
    RegionPlace,
    RunHeader,
    RunVerdict,
    StepRecord,
)
from mshv_async.log.report import report
from mshv_async.log.setup import write_log
from mshv_async.log.tables import analysis_text

__all__ = [
    "LOG_SCHEMA",
    "Analysis",
    "Difference",
    "Finding",
    "LogError",
    "LogEvent",
    "LogReader",
    "NoteRecord",
    "Record",
    "RegionPlace",
    "RunHeader",
    "RunVerdict",
    "StepRecord",
    "analysis_text",
    "analyze",
    "column_of",
    "columns",
    "difference",
    "difference_text",
    "matters",
    "report",
    "terminal_width",
    "write_log",
]
