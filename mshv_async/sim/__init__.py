"""The runtime: threads, steps, locks, actors, choices and the trace. Knows nothing of memory.

A scheduling point declares what a thread will do next (:func:`do`); the runtime picks who goes on
(:class:`Runtime`), a :class:`Strategy` decides, and the tape and trace record it.
"""

from mshv_async.sim.actors import Mailbox, Reply, ask, sleep_ns, tell
from mshv_async.sim.bounds import Bounds
from mshv_async.sim.containers import SharedDict, SharedList
from mshv_async.sim.costs import CostTable
from mshv_async.sim.current import current, current_or_none
from mshv_async.sim.faults import UNINIT, Finding, ModelFault, Place, oops
from mshv_async.sim.inject import Injection
from mshv_async.sim.lifetime import Rcu, Refcount, Srcu, kfree, kzalloc
from mshv_async.sim.locks import Mutex, SpinLock, irq_restore, irq_save
from mshv_async.sim.op import INTERRUPTIBLE, KILLABLE, PREEMPT, SLEEP, SPIN, UNINTERRUPTIBLE, Op
from mshv_async.sim.rangemap import Grain, RangeMap
from mshv_async.sim.runtime import Departure, Runtime
from mshv_async.sim.rwsem import RwSem
from mshv_async.sim.shared import Shared, is_freed, name_of
from mshv_async.sim.speaking import (
    checked_call,
    choose,
    injected,
    might_sleep_alloc,
    note,
    probe,
    warn,
)
from mshv_async.sim.stage import Stage, on_stage, run_on_stage
from mshv_async.sim.tape import Decision, Tape
from mshv_async.sim.thread import Thread, cond_resched, do, point, step
from mshv_async.sim.tokens import Seq, Tag, Token
from mshv_async.sim.waiting import Completion, WaitQueue

__all__ = [
    "INTERRUPTIBLE",
    "KILLABLE",
    "PREEMPT",
    "SLEEP",
    "SPIN",
    "UNINIT",
    "UNINTERRUPTIBLE",
    "Bounds",
    "Completion",
    "CostTable",
    "Decision",
    "Departure",
    "Finding",
    "Grain",
    "Injection",
    "Mailbox",
    "ModelFault",
    "Mutex",
    "Op",
    "Place",
    "RangeMap",
    "Rcu",
    "Refcount",
    "Reply",
    "Runtime",
    "RwSem",
    "Seq",
    "Shared",
    "SharedDict",
    "SharedList",
    "SpinLock",
    "Srcu",
    "Stage",
    "Tag",
    "Tape",
    "Thread",
    "Token",
    "WaitQueue",
    "ask",
    "checked_call",
    "choose",
    "cond_resched",
    "current",
    "current_or_none",
    "do",
    "injected",
    "irq_restore",
    "irq_save",
    "is_freed",
    "kfree",
    "kzalloc",
    "might_sleep_alloc",
    "name_of",
    "note",
    "on_stage",
    "oops",
    "point",
    "probe",
    "run_on_stage",
    "sleep_ns",
    "step",
    "tell",
    "warn",
]
