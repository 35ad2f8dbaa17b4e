"""notifier-sequence: parity and growth of the two sequence numbers (spec.md 2.2, 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import Observed
from mshv_async.oracle.watching import watches
from mshv_async.sim import Seq, current_or_none, name_of

if TYPE_CHECKING:
    from mshv_async.host import MmuNotifierRange

_START = 2


class NotifierSequence(Invariant):
    """mm.seq starts at 2, grows, and is odd exactly while a collision is not yet over; a
    subscription's is odd and changes only in its callback, under its driver's lock.
    """  # noqa: D205

    __slots__ = ("collided", "last", "open", "subscribed")
    invariant = "notifier-sequence"
    summary = "mm.seq is odd exactly while a colliding bracket is open; sub.seq only by set_seq"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.open: tuple[MmuNotifierRange, ...] = ()
        self.collided = False
        self.last: Seq | None = None
        self.subscribed: tuple[Any, ...] = ()
        subscriptions = world.mm.subscriptions
        if subscriptions is not None:
            self.last = subscriptions.invalidate_seq
            self.subscribed = subscriptions.itree

    @watches("bracket.begin")
    def on_begin(self, range: MmuNotifierRange) -> None:
        """Note that a bracket opens; it collides if a subscription overlaps it."""
        if range.mm is not self.world.mm:
            return
        self.open = (*self.open, range)
        subscriptions = self.world.mm.subscriptions
        if subscriptions is not None and not self.collided:
            tree = subscriptions.itree
            if any(mni.first < range.end and range.start <= mni.last for mni in tree):
                self.collided = True
        self.world.rt.judge_later(self.judge)

    @watches("bracket.start")
    def on_start(self, range: MmuNotifierRange, ret: int) -> None:
        """End the bracket of a start that was refused."""
        if ret:
            self.on_end(range)

    @watches("bracket.end")
    def on_end(self, range: MmuNotifierRange) -> None:
        """Note that a bracket closes; the last one ends the collision."""
        if range.mm is not self.world.mm:
            return
        self.open = tuple(r for r in self.open if r is not range)
        if not self.open and self.collided:
            self.collided = False
        self.world.rt.judge_later(self.judge)

    @watches("mni.insert")
    def on_insert(self, mni: Any) -> None:
        """Expect an odd sequence of the mm from an insertion in any bracket on."""
        if mni.mm is self.world.mm and self.open:
            self.collided = True
        self.world.rt.judge_later(self.judge)

    @watches("seq.change")
    def on_seq(self, subscriptions: Any) -> None:
        """See to it that the mm's sequence grows by one at a time."""
        ours = self.world.mm.subscriptions
        if ours is None or subscriptions is not ours:
            return
        before = self.last.n if self.last is not None else _START
        self.last = ours.invalidate_seq
        if self.last.n != before + 1 and not (before == _START and self.last.n == _START):
            self._violated(f"mm.seq went from {before} to {self.last.n}")
        self.world.rt.judge_later(self.judge)

    @watches("subseq.change")
    def on_subseq(self, mni: Any) -> None:
        """See to it that it is odd, and set under the lock that the callback takes."""
        if not mni.invalidate_seq.odd:
            self._violated(f"{name_of(mni)}.seq became even ({mni.invalidate_seq.n})")
        thread = current_or_none()
        mutex = mni.region.mutex
        # Insertion sets it too; then the subscription was not in the tree before this step.
        if (
            any(m is mni for m in self.subscribed)
            and thread is not None
            and mutex.owner is not thread
        ):
            self._violated(f"{name_of(mni)}.seq set without {name_of(mutex)}")

    def judge(self) -> None:
        """Compare the parity with the brackets."""
        subscriptions = self.world.mm.subscriptions
        if subscriptions is None:
            return
        if self.subscribed is not subscriptions.itree:
            self.subscribed = subscriptions.itree
        if subscriptions.invalidate_seq.odd != self.collided:
            state = "odd" if subscriptions.invalidate_seq.odd else "even"
            self._violated(f"mm.seq is {state}, {len(self.open)} brackets are open")

    def _violated(self, what: str) -> None:
        self.world.violated(self.name, (what,))
