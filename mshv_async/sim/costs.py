"""What a step costs in timed mode, in virtual nanoseconds.

Orders of magnitude for a current server: a remote cache line 100 ns, a hypercall about a
microsecond, a page fault half of one. A scenario overrides them by label or label prefix.
"""

from __future__ import annotations

DEFAULT_NS = 100

COSTS_NS: dict[str, int] = {
    "guest": 60,
    "hypercall": 800,
    "hypercall.map_gpa.rep": 60,
    "hypercall.unmap_gpa.rep": 60,
    "hypercall.dispatch_vp": 1_500,
    "hmm.walk": 500,
    "page.fault": 700,
    "pte": 150,
    "mutex": 40,
    "rwsem": 40,
    "spin": 20,
    "notifier": 60,
    "cond_resched": 50,
    "alloc": 300,
    "tlb": 500,
    "thread": 0,
    "timer": 0,
}


class CostTable:
    """Looks up the cost of a label by its longest dotted prefix; remembers what it found."""

    __slots__ = ("_known", "_table")

    def __init__(self, overrides: dict[str, int] | None = None) -> None:
        self._table = COSTS_NS | (overrides or {})
        self._known: dict[str, int] = {}

    def ns(self, label: str) -> int:
        """Return the virtual nanoseconds of a step that begins with this label."""
        cost = self._known.get(label)
        if cost is None:
            prefix = label
            while prefix not in self._table and "." in prefix:
                prefix = prefix.rpartition(".")[0]
            cost = self._known[label] = self._table.get(prefix, DEFAULT_NS)
        return cost
