"""nonblockable-refusal: who was told -EAGAIN takes nothing and ends nothing (spec.md 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.oracle.invariant import LateInvariant
from mshv_async.oracle.observed import PAGE_SHIFT, Observed
from mshv_async.oracle.watching import watches
from mshv_async.sim import SharedDict, current
from mshv_async.sim.spans import span

if TYPE_CHECKING:
    from mshv_async.host import Mm, MmuNotifierRange
    from mshv_async.sim import Thread


class NonblockableRefusal(LateInvariant):
    """Follows each refused attempt until its thread opens its next bracket.

    The notifier core ends the bracket itself. The one who asked may then change no page of the
    range, and may not end the bracket a second time: that would let readers of others in.
    """

    __slots__ = ("closing", "refused")
    invariant = "nonblockable-refusal"
    summary = "after -EAGAIN no page of the range is freed by that attempt, no bracket ended"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        # By thread: the range; and while the core is about to end it.
        self.refused: SharedDict[str, MmuNotifierRange] = SharedDict("oracle.refused", listed=False)
        self.closing: SharedDict[str, MmuNotifierRange] = SharedDict("oracle.closing", listed=False)

    @watches("bracket.start")
    def on_start(self, range: MmuNotifierRange, ret: int) -> None:
        """Remember who was refused what; before the first refusal there is nothing to watch."""
        if not ret:
            return
        self.closing[current().name] = range
        self.begin_watching()

    @watches("bracket.end", late=True)
    def on_end(self, range: MmuNotifierRange) -> None:
        """See to it that a refused bracket is ended by the core only."""
        name = current().name
        if self.closing.get(name) is range:
            self.closing.pop(name)
            self.refused[name] = range
        elif self.refused.get(name) is range:
            self._violated(range, f"{name} ended the bracket, which the core had ended already")

    @watches("bracket.begin", late=True)
    def on_begin(self, range: MmuNotifierRange) -> None:
        """Let a thread go on to its next range."""
        del range
        self.refused.pop(current().name)

    @watches("thread.exit", late=True)
    def on_exit(self, thread: Thread) -> None:
        """Forget a thread that is gone."""
        self.refused.pop(thread.name)

    @watches("pte.discard", late=True)
    def on_discard(self, mm: Mm, lo: int, hi: int) -> None:
        """See to it that the range keeps its pages."""
        name = current().name
        refused = self.refused.get(name)
        if refused is None or refused.mm is not mm:
            return
        if lo < refused.end >> PAGE_SHIFT and refused.start >> PAGE_SHIFT < hi:
            self._violated(refused, f"{name} cleared pages {span(lo, hi)} of it all the same")

    def _violated(self, range: MmuNotifierRange, what: str) -> None:
        self.world.violated(
            self.name,
            (
                f"a callback refused vpn {span(range.start >> 12, range.end >> 12)},"
                " which may not be blocked for",
                what,
                "the guest may still use these pages",
            ),
        )
