"""The current thread, implicit as in a kernel."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.accesses import Change
    from mshv_async.sim.facts import Facts
    from mshv_async.sim.shared import Dormant
    from mshv_async.sim.thread import Thread

current_thread: ContextVar[Thread] = ContextVar("current_thread")
judging: ContextVar[Facts | None] = ContextVar("judging", default=None)
instrumented: ContextVar[bool | Dormant] = ContextVar("instrumented", default=False)
"""Whether objects that are made now report their reads and writes; a Dormant: once it wakes."""

current = current_thread.get


def current_or_none() -> Thread | None:
    """Return the current thread, or None while a world is being set up."""
    return current_thread.get(None)


def report_access(obj: Any, what: str, write: bool, lo: int = 0, hi: int = 0) -> None:
    """Add an access to the footprint of the step under way, or of the one that is being judged."""
    thread = current_thread.get(None)
    if thread is not None:
        thread.rt.touched(obj, what, write, lo, hi)
    else:
        facts = judging.get()
        if facts is not None:
            facts.touched(obj, what, write, lo, hi)


def report_count(obj: Any, lo: int, hi: int) -> None:
    """Add counting up or down in a range: a change that commutes with others of its kind."""
    thread = current_thread.get(None)
    if thread is not None:
        thread.rt.counted(obj, lo, hi)


def report_change(obj: Any, lo: int, hi: int, pieces: Sequence[Change]) -> None:
    """Add a write into a range of a map."""
    thread = current_thread.get(None)
    facts = thread.rt if thread is not None else judging.get()
    if facts is not None:
        facts.changed(obj, lo, hi, pieces)
