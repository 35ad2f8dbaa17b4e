"""fifo: the running thread goes on while it can, then the one after it; no failure happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


class Fifo:
    """Deterministic, and the same in every execution, so it explores exactly one."""

    exhaustive = False
    prefix = 0
    suspended = False
    records = False
    probes = 0

    def begin(self, execution: int) -> bool:
        """There is one execution."""
        return execution == 0

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Go on with the current thread, else with the next tid in turn."""
        if current is None:
            return 0
        if current.op.yields or current not in enabled:
            for index, thread in enumerate(enabled):
                if thread.tid > current.tid:
                    return index
            return 0
        return enabled.index(current)

    def value(self, label: str, bound: int) -> int:
        """Take the benign value."""
        del label, bound
        return 0
