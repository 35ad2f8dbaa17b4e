"""What modelled code says beside doing its work: choices, notes, facts, warnings, frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mshv_async.sim import verdicts
from mshv_async.sim.current import current, current_or_none, current_thread
from mshv_async.sim.op import SLEEP, Op
from mshv_async.sim.thread import do

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mshv_async.sim.inject import Injection
    from mshv_async.sim.thread import Thread

R = TypeVar("R")


def choose(label: str, bound: int) -> int:
    """Resolve a data choice of the current thread: 0 … bound - 1; 0 is the benign one."""
    return current().rt.choose(label, bound)


def injected(at: str, caller: Thread | None = None, rep: int | None = None) -> Injection | None:
    """Ask whether a permitted failure happens at this point; one decision for each match.

    ``caller``: the thread whose call it is, where an actor works for another (default: current).
    """
    thread = current()
    injector = thread.rt.injector
    if at not in injector.sites:
        return None
    return injector.ask(at, caller or thread, rep)


def note(event: str, **fields: Any) -> None:
    """Record a log event; costs next to nothing unless the execution is kept."""
    thread = current_or_none()
    if thread is not None and thread.rt.notes is not None:
        thread.rt.note(event, fields)


def probe(name: str, *args: Any) -> None:
    """Tell whoever watches a fact, in the step in which it became true."""
    thread = current_thread.get(None)
    if thread is not None:
        rt = thread.rt
        watchers = rt.watchers.get(name)
        if watchers:
            rt.tell(watchers, args)


def warn(site: str, once: bool = True) -> None:
    """Fire a WARN site. ``once``: only the first time, as WARN_ONCE."""
    rt = current().rt
    if once and site in rt.warnings:
        return
    note("warn", site=site)
    verdicts.warning(rt, site)


async def might_sleep_alloc(site: str) -> bool:
    """Allocate a small piece of kernel memory (GFP_KERNEL): may sleep; False when it fails.

    Fails only where ``alloc.<site>`` is permitted to. Host pages come from the host's own
    allocator; this is for buffers too small to count.
    """
    await do(Op(f"alloc.{site}", write=False, kind=SLEEP))
    return injected(f"alloc.{site}") is None


async def checked_call(kind: str, call: Coroutine[Any, Any, R]) -> R:
    """Run a callback, an ioctl or a system call; it must not leave locks behind.

    Locks that the thread holds on return and did not hold on entry are ``lost-unlock``.
    """
    thread = current()
    before = list(thread.held)
    result = await call
    if thread.held and thread.held != before:
        kept = list(thread.held)
        for lock in before:
            if lock in kept:
                kept.remove(lock)
        if kept:
            verdicts.left_holding(thread.rt, thread, kept, getattr(call, "__name__", kind))
    return result
