"""The labels of scheduling points, as far as ``[time]`` may name them.

A test compares the table with the points in the source, so that a new one is entered here.
"""

from __future__ import annotations

from typing import Final

from mshv_async.scenario.errors import Misfit, close_match, listed, quoted
from mshv_async.scenario.injections import CALLS

_PARTS_OF_CALLS: Final = ("drop", "refused", "rep")

FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "alloc": (),  # with the name of any site
    "collapse": ("copy", "isolate", "scan", "swapin"),
    "completion": ("complete", "wait"),
    "cond_resched": (),
    "file": ("close", "dup"),
    "folio": ("split",),
    "free": (),
    "guest": ("exec", "halt", "pause", "read", "write"),
    "gup": ("fast", "pin"),
    "hmm": ("walk",),
    "hypercall": CALLS,
    "mailbox": ("receive", "send"),
    "mm": ("get", "put"),
    "mutex": ("init", "lock", "trylock", "unlock"),
    "notifier": (
        "check_retry",
        "end",
        "insert",
        "insert_return",
        "read_begin",
        "read_retry",
        "remove",
        "set_seq",
        "start",
    ),
    "oom": ("kill", "select", "wait"),
    "page": ("fault", "free"),
    "partition": ("find", "publish", "unpublish"),
    "pmd": ("clear", "restore", "set", "split"),
    "process": ("exit", "sleep"),
    "pte": ("free", "migrate", "protect", "restore", "scan", "swap", "zap"),
    "rcu": ("grace_end", "grace_start"),
    "reclaim": ("isolate", "scan"),
    "region": ("link", "lookup", "pending", "set_partition", "unlink"),
    "rmap": ("walk",),
    "rwsem": (
        "downgrade",
        "read_lock",
        "read_trylock",
        "read_unlock",
        "write_arrive",
        "write_lock",
        "write_trylock",
        "write_unlock",
    ),
    "signal": ("kill", "send"),
    "sleep": (),
    "spin": ("lock",),
    "srcu": ("grace_end", "grace_start"),
    "thread": ("start",),
    "timer": ("fire",),
    "tlb": ("flush",),
    "user": ("read", "write"),
    "vma": ("adjust", "detach", "insert", "protect"),
    "vmm": ("await_vp", "find_vma"),
    "vp": (
        "host_interrupt",
        "install_fd",
        "kick",
        "pre_dispatch",
        "publish",
        "reset_kick",
        "unpublish",
    ),
    "wait": ("prepare", "sleep"),
}
"""First words, and the second words that each has."""


def check_label(label: str) -> None:
    """Raise ``Misfit`` for what is no point's label, nor the beginning of one (whole words)."""
    family, *rest = label.split(".")
    if family not in FAMILIES:
        known = f"labels or beginnings of labels, such as hypercall.map_gpa: {listed(FAMILIES)}"
        raise Misfit(quoted(label) + close_match(family, FAMILIES), known)
    if family == "alloc" or not rest:
        return
    seconds = FAMILIES[family]
    parts = _PARTS_OF_CALLS if family == "hypercall" else ()
    if rest[0] in seconds and (len(rest) == 1 or (len(rest) == 2 and rest[1] in parts)):
        return
    fitting = [f"{family}.{second}" for second in seconds] or [family]
    if rest[0] in seconds and parts:
        fitting = [f"{family}.{rest[0]}.{part}" for part in parts]
    raise Misfit(quoted(label) + close_match(label, fitting), listed(fitting))
