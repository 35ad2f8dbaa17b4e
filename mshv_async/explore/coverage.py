"""Coverage: which orders of conflicting steps the schedules of a campaign have shown.

Lines of code say little about a schedule; what it adds is an order in which two steps of different
threads met. Counted are the ordered pairs of :mod:`mshv_async.sim.orders`: two declared operations
that follow each other on one object, conflict, and belong to different threads (the same measure
is known as synchronisation coverage: Bron, Farchi, Magid, Nir, Ur: Applications of Synchronization
Coverage, PPoPP 2005). How many there can be is unknown; that no new ones come any more is the
sign that a strategy has shown what it will.

Each pair is kept with the first schedule that had it, and which schedules are looked at follows
from their numbers; so parts of a campaign, on whatever workers, add up to the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mshv_async.sim.orders import ordered_pairs, reverse

if TYPE_CHECKING:
    from mshv_async.sim import Runtime
    from mshv_async.sim.orders import OrderedPair

ALL_UNTIL = 1_000
"""Every schedule is looked at up to this one, then each ``LOOK_EVERY``-th: new pairs are rare."""
LOOK_EVERY = 4
RECENT = 1_000
PAIRS_MAX = 100_000
"""More are not told apart; so many need about 30 MiB."""


@dataclass(slots=True)
class Coverage:
    """Ordered pairs, each with the first schedule that had it; schedules count from 1."""

    first: dict[OrderedPair, int] = field(default_factory=dict)
    latest: int = 0

    def update(self, rt: Runtime, schedule: int) -> None:
        """Take in one execution."""
        self.latest = max(self.latest, schedule)
        if schedule > ALL_UNTIL and schedule % LOOK_EVERY:
            return
        for pair in ordered_pairs(rt):
            self.add(pair, schedule)

    def add(self, pair: OrderedPair, schedule: int) -> None:
        """Enter a pair that this schedule had."""
        known = self.first.get(pair)
        if known is None and len(self.first) >= PAIRS_MAX:
            return
        if known is None or schedule < known:
            self.first[pair] = schedule

    def merge(self, other: Coverage) -> None:
        """Add what other schedules have shown."""
        self.latest = max(self.latest, other.latest)
        for pair, schedule in other.first.items():
            self.add(pair, schedule)

    @property
    def pairs(self) -> int:
        """How many ordered pairs were seen."""
        return len(self.first)

    @property
    def reversed(self) -> int:
        """How many of them were seen the other way round, too."""
        return sum(reverse(pair) in self.first for pair in self.first)

    def new_in_last(self, schedules: int) -> int:
        """Return how many pairs came for the first time in so many schedules, by their numbers."""
        return sum(schedule > self.latest - schedules for schedule in self.first.values())

    def object(self) -> dict[str, int]:
        """Return the object ``coverage`` of an outcome."""
        return {
            "pairs": self.pairs,
            "both_orders": self.reversed,
            "new_in_last_1000": self.new_in_last(RECENT),
        }

    def line(self) -> str:
        """Return what an outcome's text says."""
        text = (
            f"coverage: {self.pairs:,} ordered pairs of conflicting steps, {self.reversed:,} in "
            "both orders"
        )
        if self.latest > RECENT:
            text += f", {self.new_in_last(RECENT):,} new in the last {RECENT:,} schedules"
        return text


def excluded_probability(schedules: int) -> float:
    """Return the failure probability for each schedule that so many clean ones exclude at 95 %.

    The largest p for which n independent schedules without a failure still happen with 5 %:
    (1 - p)^n = 0.05; about 3 / n (Hanley, Lippman-Hand: If Nothing Goes Wrong, Is Everything All
    Right?, JAMA 1983).
    """
    return float(1.0 - 0.05 ** (1.0 / schedules))
