"""The VMM: a process with an mm, a partition, threads that run VPs, and scenario programs.

``VmmProcess`` starts the threads. Host threads, the reclaimer and the OOM reaper run here too:
their programs are operations on the VMM's address space.
"""

from mshv_async.vmm.operations import AddressTable, Line, Operation, Position, Program
from mshv_async.vmm.process import VmmProcess
from mshv_async.vmm.thread import PERFORM, ScenarioThread
from mshv_async.vmm.vp_thread import Guest, VpThread

__all__ = [
    "PERFORM",
    "AddressTable",
    "Guest",
    "Line",
    "Operation",
    "Position",
    "Program",
    "ScenarioThread",
    "VmmProcess",
    "VpThread",
]
