"""What each thread of a log did with its turns: steps, time stood aside, retries."""

from __future__ import annotations

import errno

import msgspec

from mshv_async.log.reading import LogEvent, is_step

# A step of these ends a wait for somebody else: the thread could not have gone on before.
WAITS = ("mailbox.receive", "hypercall.", "timer.", "sleep", "thread.start", "notifier.wait")


class Turns(msgspec.Struct, frozen=True):
    """One thread's share of the execution.

    `longest_aside`: the most steps that others took between two of its own while the log knows of
    nothing that it waited for (a lock, an answer, a message, a timer). `retries`: EBUSY retries of
    its faults.
    """

    thread: str
    steps: int
    longest_aside: int
    retries: int


class TurnCount:
    """Counts turns."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.aside: dict[str, int] = {}
        self.waiting: dict[str, bool] = {}
        self.returned: dict[str, int] = {}

    def take(self, event: LogEvent) -> None:
        """Count one event."""
        who = event.actor
        if event.event in {"lock.wait", "guest.intercept"}:
            self.waiting[who] = True
        elif event.event == "hmm.range_fault" and event.ret == -errno.EBUSY:
            self.returned[who] = self.returned.get(who, 0) + 1
        if who and is_step(event):
            self.steps[who] = self.steps.get(who, 0) + 1
            waited = self.waiting.pop(who, False) or event.event.startswith(WAITS)
            if who in self.last and not waited:
                aside = event.step - self.last[who] - 1
                self.aside[who] = max(self.aside.get(who, 0), aside)
            self.last[who] = event.step

    def result(self, repeated: dict[str, int]) -> list[Turns]:
        """Return the threads by steps; `repeated`: retries of each as the driver's notes tell."""
        retries = repeated or self.returned
        by_steps = sorted(self.steps.items(), key=lambda item: (-item[1], item[0]))
        return [Turns(t, n, self.aside.get(t, 0), retries.get(t, 0)) for t, n in by_steps]
