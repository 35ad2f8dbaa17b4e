"""The event loop: virtual clock, no selector, one simulated thread a turn.

Ordinary callbacks and tasks (anyio's bookkeeping) run at once: each turn runs those that were
queued when it began, then resumes one simulated thread. Not "until none is left": anyio queues
its own cancel delivery again for as long as a scope is being cancelled.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import base_events
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Resumable(Protocol):
    """What can be resumed at the end of a turn: a parked thread, or a decision to take."""

    def resume(self) -> None:
        """Run until it waits again."""


class SimLoop(base_events.BaseEventLoop):
    """An asyncio loop on which a runtime decides which thread runs next.

    ``next_parker`` is set by the runtime at a scheduling point: whom to resume when the running
    task has suspended. ``time()`` is virtual and jumps to the earliest timer when all is idle.
    ``on_idle`` is asked when not even a timer is left; True: there is something to do again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.next_parker: Resumable | None = None
        self.on_idle: Callable[[], bool] | None = None
        self._virtual_s = 0.0

    @property
    def busy(self) -> bool:
        """Whether callbacks or tasks other than simulated threads want to run."""
        return bool(self._ready)  # type: ignore[attr-defined]

    def time(self) -> float:
        """Return virtual seconds."""
        return self._virtual_s

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
        parker = self.next_parker
        while parker is not None:
            self.next_parker = None
            parker.resume()
            if ready:
                return
            parker = self.next_parker
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._advance()

    def _advance(self) -> None:
        """Jump to the earliest timer; with nothing to wait for, the program hangs: say so."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not scheduled:
            if self.on_idle is not None and self.on_idle():
                return
            msg = "the simulated loop is idle for ever: a task awaits something outside it"
            raise RuntimeError(msg)
        handle = heapq.heappop(scheduled)
        handle._scheduled = False
        self._virtual_s = max(self._virtual_s, handle.when())
        self._ready.append(handle)  # type: ignore[attr-defined]

    def _process_events(self, event_list: Any) -> None:
        """Nothing comes from outside."""

    def _write_to_self(self) -> None:
        """No selector sleeps, so nothing is to be woken."""


def sim_loop_factory() -> asyncio.AbstractEventLoop:
    """Return a new simulated loop; for ``anyio.run(..., backend_options=...)``."""
    return SimLoop()
