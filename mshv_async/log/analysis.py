"""What a log says in numbers: events, faults, retries, locks, hypercalls (formats.md 2, analyze).

Everything comes from the log's events, read once. Exploration has no clock: its logs measure
locks in steps and give no latencies.
"""

from __future__ import annotations

import errno
from array import array
from collections import Counter
from collections.abc import Iterable
from math import ceil
from pathlib import Path
from typing import TypeGuard

import msgspec

from mshv_async.log.history import HistoryKeeper, RegionHistory
from mshv_async.log.locks import LockClass, LockCount, Wait
from mshv_async.log.reading import LogEvent, LogReader, Loose
from mshv_async.log.record import RunHeader, RunVerdict
from mshv_async.log.story import StoryTeller
from mshv_async.log.turns import TurnCount, Turns

PERCENTILES = (50, 90, 99)

MEMORY_INTERCEPTS = ("GPA_INTERCEPT", "UNMAPPED_GPA")


class Latency(msgspec.Struct, frozen=True):
    """Percentiles by nearest rank, in virtual nanoseconds."""

    p50_ns: int
    p90_ns: int
    p99_ns: int
    max_ns: int


class Faults(msgspec.Struct, frozen=True):
    """Guest page faults: the driver's handling of each, or else the guest's stop.

    `failed` ended with an error, `unfinished` had not ended when the log does. `by_actor` counts
    the faults begun. `latency` is null without a clock.
    """

    count: int
    failed: int
    unfinished: int
    latency: Latency | None
    by_actor: dict[str, int]


class Hypercalls(msgspec.Struct, frozen=True):
    """One kind of hypercall: calls issued, list elements (reps) done, answers by status.

    Calls without an answer when the log ends are in `calls` but in no status.
    """

    name: str
    calls: int
    reps: int
    statuses: dict[str, int]


class Analysis(msgspec.Struct, frozen=True):
    """All that `analyze` shows. `note` says where a log that was cut short ends.

    `unit` is that of lock waits and holds: `ns` (virtual) or, without a clock, `steps`. `waits`
    and `held` are as the log ends.
    """

    run: RunHeader
    timed: bool
    unit: str
    steps: int
    story: list[str]
    actors: dict[str, int]
    events: dict[str, int]
    faults: Faults
    ebusy_retries: int
    waits: list[Wait]
    held: dict[str, list[str]]
    locks: list[LockClass]
    threads: list[Turns]
    hypercalls: list[Hypercalls]
    region: RegionHistory | None
    verdict: RunVerdict | None
    note: str | None

    @property
    def failed(self) -> bool:
        """Whether the log ends with a verdict that is not `clean`."""
        return self.verdict is not None and self.verdict.verdict != "clean"


def analyze(path: str | Path) -> Analysis:
    """Read the log at `path` once and count it up. Raises LogError and OSError."""
    log = LogReader(path)
    events: Counter[str] = Counter()
    actors: Counter[str] = Counter()
    faults, locks, calls, retries = _FaultCount(), LockCount(), _CallCount(), _RetryCount()
    turns, story, history = TurnCount(), StoryTeller(), HistoryKeeper(log.header)
    steps = 0
    for event in log:
        events[event.event] += 1
        actors[event.actor] += 1
        steps = event.step
        for count in (faults, locks, calls, retries, turns, story, history):
            count.take(event)
    return Analysis(
        run=log.header,
        timed=log.timed,
        unit="ns" if log.timed else "steps",
        steps=log.verdict.steps if log.verdict else steps,
        story=story.result(),
        actors=_by_count(actors),
        events=_by_count(events),
        faults=faults.result(),
        ebusy_retries=retries.result(),
        waits=locks.waits_at_the_end(),
        held=locks.held_at_the_end(),
        locks=locks.result(),
        threads=turns.result(retries.by_actor),
        hypercalls=calls.result(),
        region=history.result(log.verdict),
        verdict=log.verdict,
        note=log.note,
    )


def latency(samples_ns: Iterable[int]) -> Latency | None:
    """Return the percentiles of `samples_ns` by nearest rank, None where there are none."""
    ranked = sorted(samples_ns)
    if not ranked:
        return None
    p50, p90, p99 = (ranked[ceil(p * len(ranked) / 100) - 1] for p in PERCENTILES)
    return Latency(p50, p90, p99, ranked[-1])


class _FaultCount:
    """Faults as the driver notes them, `fault.begin` to `fault.end` on the handling thread.

    Where it notes none: from a virtual processor's stop at a page without access
    (`guest.intercept`) until it runs again (`vp.dispatch`).
    """

    def __init__(self) -> None:
        self.noted, self.stops = _PairCount(), _PairCount()

    def take(self, event: LogEvent) -> None:
        match event.event:
            case "fault.begin":
                self.noted.begin(event.actor, event.t)
            case "fault.end":
                # `ret` is 0 or -errno, or C's bool: false is the failure there.
                failed = event.ret is False or (_is_int(event.ret) and event.ret < 0)
                self.noted.end(event.actor, event.t, failed=failed)
            case "guest.intercept" if event.type in MEMORY_INTERCEPTS:
                self.stops.begin(f"vp{event.vp}", event.t)
            case "vp.dispatch":
                self.stops.end(f"vp{event.vp}", event.t, failed=False)

    def result(self) -> Faults:
        pairs = self.noted if self.noted.begun else self.stops
        return Faults(
            count=pairs.begun.total(),
            failed=pairs.failed,
            unfinished=len(pairs.open),
            latency=latency(pairs.latencies_ns),
            by_actor=_by_count(pairs.begun),
        )


class _PairCount:
    """What each of several parties begins and ends, one at a time."""

    def __init__(self) -> None:
        self.open: dict[str, int | None] = {}
        self.begun: Counter[str] = Counter()
        self.latencies_ns = array("q")
        self.failed = 0

    def begin(self, party: str, t_ns: int | None) -> None:
        self.begun[party] += 1
        self.open[party] = t_ns

    def end(self, party: str, t_ns: int | None, *, failed: bool) -> None:
        if party in self.open:
            begun_ns = self.open.pop(party)
            if begun_ns is not None and t_ns is not None:
                self.latencies_ns.append(t_ns - begun_ns)
            self.failed += failed


class _RetryCount:
    """EBUSY retries: the driver's note of them, else what tells that an attempt was repeated.

    Without `fault.retry`, an attempt begins with `notifier.read_begin`: those of one fault after
    the first are retries. Without faults either, `hmm.range_fault` that returned -EBUSY.
    """

    def __init__(self) -> None:
        self.noted = self.repeated = self.returned = 0
        self.attempts: dict[str, int] = {}
        self.by_actor: dict[str, int] = {}

    def take(self, event: LogEvent) -> None:
        match event.event:
            case "fault.retry":
                self.noted += 1
                self.by_actor[event.actor] = self.by_actor.get(event.actor, 0) + 1
            case "fault.begin":
                self.attempts[event.actor] = 0
            case "fault.end":
                self.attempts.pop(event.actor, None)
            case "notifier.read_begin" if event.actor in self.attempts:
                self.repeated += self.attempts[event.actor] > 0
                self.attempts[event.actor] += 1
            case "hmm.range_fault" if event.ret == -errno.EBUSY:
                self.returned += 1

    def result(self) -> int:
        return self.noted or self.repeated or self.returned


class _CallCount:
    """Hypercalls from the caller's `hypercall.issue` and `hypercall.return`.

    A thread has one call in flight; both notes count list elements from the list's start.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.reps: Counter[str] = Counter()
        self.statuses: dict[str, Counter[str]] = {}
        self.started: dict[str, Loose] = {}

    def take(self, event: LogEvent) -> None:
        if not isinstance(event.code, str):
            return
        if event.event == "hypercall.issue":
            self.calls[event.code] += 1
            self.started[event.actor] = event.start
        elif event.event == "hypercall.return":
            started = self.started.pop(event.actor, None)
            if _is_int(started) and _is_int(event.done):
                self.reps[event.code] += event.done - started
            self.statuses.setdefault(event.code, Counter())[str(event.status)] += 1

    def result(self) -> list[Hypercalls]:
        none: Counter[str] = Counter()
        return [
            Hypercalls(
                name=name,
                calls=calls,
                reps=self.reps[name],
                statuses=_by_count(self.statuses.get(name, none)),
            )
            for name, calls in sorted(self.calls.items())
        ]


def _by_count(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
