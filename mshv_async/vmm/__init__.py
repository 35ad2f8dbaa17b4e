"""The VMM: a process with an mm, a partition, threads that run VPs, and scenario programs.

``VmmProcess`` starts the threads; further processes are ``Process``. Host threads, the reclaimer,
khugepaged and the OOM reaper run here too: their programs are operations on an address space.
"""

from mshv_async.vmm.files import FIRST_FD, File, Files
from mshv_async.vmm.monitor import VmmProcess
from mshv_async.vmm.operations import AddressTable, Line, Operation, Position, Program
from mshv_async.vmm.performing import PERFORM
from mshv_async.vmm.process import Process
from mshv_async.vmm.thread import ScenarioThread
from mshv_async.vmm.vp_thread import Guest, VpThread

__all__ = [
    "FIRST_FD",
    "PERFORM",
    "AddressTable",
    "File",
    "Files",
    "Guest",
    "Line",
    "Operation",
    "Position",
    "Process",
    "Program",
    "ScenarioThread",
    "VmmProcess",
    "VpThread",
]
