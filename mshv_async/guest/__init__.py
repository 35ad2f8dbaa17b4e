"""The guest: virtual processors that execute programs, workloads or recorded page traces.

A guest sees its memory through the SLAT only. What it read is told to whoever watches
``guest.access``, where every value can be checked.
"""

from mshv_async.guest.processor import GuestMemory, GuestProcessor
from mshv_async.guest.program import (
    Group,
    GuestAccess,
    Operation,
    OperationSource,
    Program,
    Sleep,
    Yield,
    execute,
    read,
    write,
)
from mshv_async.guest.tracefile import Touch, Trace, parse_trace, read_trace
from mshv_async.guest.workload import Counted, Replay, Sequential, Uniform, Zipf

__all__ = [
    "Counted",
    "Group",
    "GuestAccess",
    "GuestMemory",
    "GuestProcessor",
    "Operation",
    "OperationSource",
    "Program",
    "Replay",
    "Sequential",
    "Sleep",
    "Touch",
    "Trace",
    "Uniform",
    "Yield",
    "Zipf",
    "execute",
    "parse_trace",
    "read",
    "read_trace",
    "write",
]
