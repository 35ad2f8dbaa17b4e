"""What ^C does to a search: the first asks it to stop, the second stops whatever runs.

SIGTERM, which ``timeout`` and CI send, does the same.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextmanager
def interrupts(stop: Callable[[], None] | None = None) -> Iterator[None]:
    """Call ``stop`` for the first ^C; raise KeyboardInterrupt for the next, or without ``stop``.

    asyncio's own handling cancels the main task first and raises at the second ^C, neither of
    which reaches a driver that spins. Only in the main thread, and only where ^C has its usual
    meaning.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or not usual:
        yield
        return
    asked = False

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked or stop is None:
            raise KeyboardInterrupt
        asked = True
        stop()

    signal.signal(signal.SIGINT, interrupted)
    terminated = signal.signal(signal.SIGTERM, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, terminated)
