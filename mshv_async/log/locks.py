"""Lock classes counted up from a log, and who waits for whom where it ends.

Times are virtual nanoseconds where the log has a clock, else steps of the whole execution.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from mshv_async.log.reading import LogEvent


class Spread(msgspec.Struct, frozen=True):
    """Shortest, mean and longest, in the analysis' unit: virtual ns or steps."""

    min: int
    avg: int
    max: int


class LockClass(msgspec.Struct, frozen=True):
    """One lock class. `contended` counts the acquisitions that had to wait."""

    lock_class: str
    acquired: int
    contended: int
    wait: Spread | None
    hold: Spread | None
    still_waiting: int
    still_held: int


class Wait(msgspec.Struct, frozen=True):
    """A thread that waits for a lock where the log ends, and who holds it."""

    thread: str
    lock: str
    holders: tuple[str, ...]


class _SpreadCount:
    def __init__(self) -> None:
        self.count = self.total = self.longest = 0
        self.shortest: int | None = None

    def add(self, length: int) -> None:
        self.count += 1
        self.total += length
        self.longest = max(self.longest, length)
        self.shortest = length if self.shortest is None else min(self.shortest, length)

    def result(self) -> Spread | None:
        if self.shortest is None:
            return None
        return Spread(self.shortest, self.total // self.count, self.longest)


class _ClassCount:
    def __init__(self) -> None:
        self.acquired = self.contended = 0
        self.waited, self.held = _SpreadCount(), _SpreadCount()


class LockCount:
    """Waits and holds by class, from `lock.wait`, `lock.acquire` and `lock.release`.

    A thread waits for one lock at a time, but may hold a reader's lock more than once: holds
    are a stack for each thread and lock.
    """

    def __init__(self) -> None:
        self.classes: dict[str, _ClassCount] = {}
        self.waiting: dict[tuple[str, str], tuple[str, int]] = {}
        self.holding: dict[tuple[str, str], list[tuple[str, int]]] = {}

    def take(self, event: LogEvent) -> None:
        """Count one event."""
        if not event.event.startswith("lock."):
            return
        if not isinstance(event.lock, str) or not isinstance(event.lock_class, str):
            return
        now = event.step if event.t is None else event.t
        key = (event.actor, event.lock)
        of_class = self.classes.setdefault(event.lock_class, _ClassCount())
        if event.event == "lock.wait":
            of_class.contended += 1
            self.waiting[key] = (event.lock_class, now)
        elif event.event == "lock.acquire":
            of_class.acquired += 1
            if key in self.waiting:
                of_class.waited.add(now - self.waiting.pop(key)[1])
            self.holding.setdefault(key, []).append((event.lock_class, now))
        elif event.event == "lock.release" and self.holding.get(key):
            of_class.held.add(now - self.holding[key].pop()[1])

    def result(self) -> list[LockClass]:
        """Return the classes by name."""
        still_waiting = Counter(name for name, _ in self.waiting.values())
        still_held = Counter(name for holds in self.holding.values() for name, _ in holds)
        return [
            LockClass(
                lock_class=name,
                acquired=count.acquired,
                contended=count.contended,
                wait=count.waited.result(),
                hold=count.held.result(),
                still_waiting=still_waiting[name],
                still_held=still_held[name],
            )
            for name, count in sorted(self.classes.items())
        ]

    def held_at_the_end(self) -> dict[str, list[str]]:
        """Return the locks that each thread still holds, in the order in which it took them."""
        held: dict[str, list[str]] = {}
        for (thread, lock), holds in self.holding.items():
            if holds:
                held.setdefault(thread, []).append(lock)
        return held

    def waits_at_the_end(self) -> list[Wait]:
        """Return who waits for whom, a cycle's threads first and in its order."""
        holders: dict[str, list[str]] = {}
        for (thread, lock), holds in self.holding.items():
            if holds:
                holders.setdefault(lock, []).append(thread)
        waits = {
            thread: Wait(thread, lock, tuple(holders.get(lock, ())))
            for thread, lock in self.waiting
        }
        first = cycle(waits)
        return [*(waits[name] for name in first), *(w for t, w in waits.items() if t not in first)]


def cycle(waits: dict[str, Wait]) -> list[str]:
    """Return the threads of a cycle among the waits, each waiting for the next; empty: none."""
    for start in waits:
        path = [start]
        while True:
            following = [t for t in waits[path[-1]].holders if t in waits]
            if not following:
                break
            if following[0] in path:
                return path[path.index(following[0]) :]
            path.append(following[0])
    return []
