"""How often the cyclic collector looks while executions are played."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

THRESHOLD = (50_000, 10, 10)


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Let the cyclic collector look less often: worlds die whole, a few thousand objects at once.

    With the interpreter's own threshold a sixth of the time goes into looking. Only in the main
    thread: beside other code the collector is not ours. A program that froze its objects, as one
    may that explores a thousand times, is not made to look at them at each campaign; they stay
    frozen.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = gc.get_threshold()
    freezes = gc.get_freeze_count() == 0
    gc.collect()  # what is garbage now must not be kept by the freeze
    if freezes:
        gc.freeze()
    gc.set_threshold(*THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if freezes:
            gc.unfreeze()
