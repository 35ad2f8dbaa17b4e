"""nonblockable-refusal: who was told -EAGAIN takes nothing and ends nothing (spec.md 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.oracle.observed import PAGE_SHIFT, Observed
from mshv_async.sim import current
from mshv_async.sim.spans import span

if TYPE_CHECKING:
    from mshv_async.host import Mm, MmuNotifierRange
    from mshv_async.sim import Thread


class NonblockableRefusal:
    """Follows each refused attempt until its thread opens its next bracket.

    The notifier core ends the bracket itself. The one who asked may then change no page of the
    range, and may not end the bracket a second time: that would let readers of others in.
    """

    name = "nonblockable-refusal"
    summary = "after -EAGAIN no page of the range is freed by that attempt, no bracket ended"

    def __init__(self, world: Observed) -> None:
        self.world = world
        self.refused: dict[str, MmuNotifierRange] = {}  # by thread
        self.closing: dict[str, MmuNotifierRange] = {}  # the core is about to end it
        self.watching = False
        world.rt.watch("bracket.start", self.on_start)

    def on_start(self, range: MmuNotifierRange, ret: int) -> None:
        """Remember who was refused what; before the first refusal there is nothing to watch."""
        if not ret:
            return
        self.closing[current().name] = range
        if not self.watching:
            self.watching = True
            rt = self.world.rt
            rt.watch("bracket.begin", self.on_begin)
            rt.watch("bracket.end", self.on_end)
            rt.watch("pte.discard", self.on_discard)
            rt.watch("thread.exit", self.on_exit)

    def on_end(self, range: MmuNotifierRange) -> None:
        """See to it that a refused bracket is ended by the core only."""
        name = current().name
        if self.closing and self.closing.get(name) is range:
            del self.closing[name]
            self.refused[name] = range
        elif self.refused and self.refused.get(name) is range:
            self._violated(range, f"{name} ended the bracket, which the core had ended already")

    def on_begin(self, range: MmuNotifierRange) -> None:
        """Let a thread go on to its next range."""
        del range
        if self.refused:
            self.refused.pop(current().name, None)

    def on_exit(self, thread: Thread) -> None:
        """Forget a thread that is gone."""
        self.refused.pop(thread.name, None)

    def on_discard(self, mm: Mm, lo: int, hi: int) -> None:
        """See to it that the range keeps its pages."""
        if not self.refused:
            return
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
