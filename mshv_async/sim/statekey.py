"""State keys: what a world and its threads can still do, as one value.

The key is a hash of the canonical form (:mod:`mshv_async.sim.canonical`) of all that the roots and
the threads' coroutines reach. How far an operation is from its progress bound is not in it: two
equal states may turn fair at different times, which no execution within the bound notices.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mshv_async.sim.canonical import KeyWriter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread


def state_text(
    rt: Runtime,
    roots: Iterable[Any],
    opaque: tuple[type, ...] = (),
    *,
    current: bool = True,
    turns: bool = True,
) -> list[str]:
    """Return the canonical form of the current state, for comparing two of them in full.

    ``current``: who ran last is part of it, as where preemptions are counted. ``turns``: so is the
    fair scheduler, of which no two states are the same.
    """
    writer = KeyWriter((type(rt), type(rt.strategy), *opaque))
    for root in roots:
        writer.write(root)
    for thread in rt.all_threads:
        _write_thread(writer, thread)
    running = rt.running.name if current and rt.running is not None else "-"
    writer.out.append(
        f"{running} {int(rt.fair)} {int(rt.killed)} {int(rt.closing)} {rt.pending_timers()}"
    )
    if rt.fair and turns:  # the fair scheduler counts them
        writer.out.append(str(rt.steps))
    writer.write(sorted(rt.injector.used.items()))
    writer.write(sorted(rt.warnings))
    writer.write(sorted(rt.noted))
    return writer.out


def state_key(
    rt: Runtime, roots: Iterable[Any], opaque: tuple[type, ...] = (), *, current: bool = True
) -> bytes:
    """Return a 160-bit key of the current state. Call it at a decision, between two steps."""
    return key_of(state_text(rt, roots, opaque, current=current))


def key_of(state: list[str]) -> bytes:
    """Return the 160-bit key of a state's canonical form."""
    text = "\x1f".join(state)
    return hashlib.blake2b(text.encode(), digest_size=20).digest()


def _write_thread(writer: KeyWriter, thread: Thread) -> None:
    writer.out.append(
        f"thread {thread.name} {int(thread.finished)}{thread.signal_pending + thread.fatal_pending}"
        f"{thread.spins}{thread.irqs_off}{thread.nonblock_depth}{int(thread.woken)}"
        f"{int(thread.timer_fired)}{int(thread.ledger.owes)}"
    )
    for lock in thread.held:
        writer.write(lock)
    writer.write(thread.op)
    writer.write(thread.coro if not thread.finished else None)
