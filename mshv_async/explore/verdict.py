"""The verdicts, as a type for tests and scripts."""

from __future__ import annotations

from enum import StrEnum

from mshv_async.sim.verdicts import severity


class Verdict(StrEnum):
    """What an execution or a campaign came to; equal to the string of the same text."""

    OOPS = "oops"
    USE_AFTER_FREE = "use-after-free"
    LOST_UNLOCK = "lost-unlock"
    SLEEP_IN_ATOMIC = "sleep-in-atomic"
    DEADLOCK = "deadlock"
    STALE_MAPPING = "invariant:stale-mapping"
    COHERENCE = "invariant:coherence"
    GUEST_DATA = "invariant:guest-data"
    PAGE_ARRAY = "invariant:page-array"
    NOTIFIER_SEQUENCE = "invariant:notifier-sequence"
    NOTIFIER_TREE = "invariant:notifier-tree"
    REGION_OWNERSHIP = "invariant:region-ownership"
    RIGHTS = "invariant:rights"
    LARGE_PAGE_SHAPE = "invariant:large-page-shape"
    ACCESS_NOT_ABSENT = "invariant:access-not-absent"
    ATOMIC_FAILURE = "invariant:atomic-failure"
    NONBLOCKABLE_REFUSAL = "invariant:nonblockable-refusal"
    DIRTY_COMPLETE = "invariant:dirty-complete"
    PIN_STABILITY = "invariant:pin-stability"
    ENCRYPTED_EXCLUSIVE = "invariant:encrypted-exclusive"
    DEPOSIT_ACCOUNTING = "invariant:deposit-accounting"
    RECLAIM_UNDER_LOCK = "invariant:reclaim-under-lock"
    KICK = "invariant:kick"
    TEARDOWN_CLEAN = "invariant:teardown-clean"
    BOUNDED_MEMORY = "invariant:bounded-memory"
    UNKILLABLE = "unkillable"
    LIVELOCK = "livelock"
    STARVATION = "starvation"
    HUNG_TASK = "hung-task"
    GUEST_KILLED = "guest-killed"
    WARN = "warn"
    CLEAN = "clean"

    @property
    def severity(self) -> int:
        """The rank, 0 the worst."""
        return severity(self)
