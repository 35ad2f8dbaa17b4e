"""Where a thread's coroutines stand: function names, innermost first."""

from __future__ import annotations

import sys
from inspect import CO_COROUTINE
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType, TracebackType

    from mshv_async.sim.thread import Thread


class StackFrame(NamedTuple):
    """A function on a stack, and the module that it is written in."""

    function: str
    module: str


class Place(NamedTuple):
    """Where a function on a stack stands: cheap to take, put into words only when it is needed."""

    code: CodeType
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.code.co_name} ({Path(self.code.co_filename).name}:{self.line})"


_HIDDEN = ("mshv_async.sim.", "mshv_async.oracle", "asyncio", "anyio")


def _is_seat(frame: FrameType) -> bool:
    """Say whether the frame is the task's that runs thread bodies: below it is no model."""
    return (
        frame.f_code.co_name in {"_serve", "_work"}
        and frame.f_globals.get("__name__") == "mshv_async.sim.stage"
    )


def _shown(frame: FrameType) -> bool:
    # Of the models only coroutines: they are the functions that a kernel developer knows.
    if not frame.f_code.co_flags & CO_COROUTINE or frame.f_code.co_name.startswith("_"):
        return False
    return not frame.f_globals.get("__name__", "").startswith(_HIDDEN)


def _entry(frame: FrameType) -> StackFrame:
    return StackFrame(frame.f_code.co_name, frame.f_globals.get("__name__", ""))


def running_stack() -> list[StackFrame]:
    """Return the stack of the code that calls this, up to the thread's body."""
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_seat(frame):
        if _shown(frame):
            found.append(_entry(frame))
        frame = frame.f_back
    return found


def waiting_stack(coro: Any) -> list[StackFrame]:
    """Return the stack of a suspended coroutine."""
    found = []
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
        if frame is not None and _shown(frame):
            found.append(_entry(frame))
        coro = getattr(coro, "cr_await", None)
    return found[::-1]


def traceback_stack(traceback: TracebackType | None) -> list[StackFrame]:
    """Return the stack at the place where an exception was raised."""
    found = []
    while traceback is not None:
        if _shown(traceback.tb_frame):
            found.append(_entry(traceback.tb_frame))
        traceback = traceback.tb_next
    return found[::-1]


def place_of(thread: Thread, is_driver: Callable[[str], bool]) -> Place | None:
    """Return where a thread stands, running or not: in the driver if it is there, else innermost.

    None: it has not begun, or is in no function that anybody would know.
    """
    coro: Any = thread.coro
    if coro is None:
        return None
    frames = _running_frames() if coro.cr_running else _waiting_frames(coro)
    shown = [frame for frame in frames if _shown(frame)]
    chosen = next((f for f in shown if is_driver(f.f_globals.get("__name__", ""))), None)
    frame = chosen or next(iter(shown), None)
    if frame is None:
        return None
    return Place(frame.f_code, frame.f_lineno, frame.f_globals.get("__name__", ""))


def _running_frames() -> list[FrameType]:
    frames = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_seat(frame):
        frames.append(frame)
        frame = frame.f_back
    return frames


def _waiting_frames(coro: Any) -> list[FrameType]:
    frames = []
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
        if frame is not None:
            frames.append(frame)
        coro = getattr(coro, "cr_await", None)
    return frames[::-1]


def stack_of(thread: Thread, running: Thread | None) -> list[StackFrame]:
    """Return a thread's stack, whether it runs or waits."""
    if thread is running:
        return running_stack()
    return waiting_stack(thread.coro)
