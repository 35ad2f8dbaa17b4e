"""The current thread, implicit as in a kernel."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mshv_async.sim.thread import Thread

current_thread: ContextVar[Thread] = ContextVar("current_thread")
instrumented: ContextVar[bool] = ContextVar("instrumented", default=False)

current = current_thread.get


def current_or_none() -> Thread | None:
    """Return the current thread, or None while a world is being set up."""
    return current_thread.get(None)
