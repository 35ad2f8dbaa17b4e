"""notifier-tree: the tree is frozen while the sequence is odd (spec.md 2.1, 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import Observed
from mshv_async.oracle.watching import watches
from mshv_async.sim import Seq, name_of

if TYPE_CHECKING:
    from mshv_async.host import MmuNotifierRange


class NotifierTree(Invariant):
    """Compares the members of the tree between two looks at the same odd sequence."""

    __slots__ = ("members", "removed", "seq")
    invariant = "notifier-tree"
    summary = "the tree does not change while mm.seq is odd; no callback after remove returned"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        self.seq: Seq | None = None
        self.members: tuple[Any, ...] = ()
        self.removed: tuple[Any, ...] = ()
        self.judge()

    @watches("seq.change", "mni.insert", "mni.remove", "bracket.begin", "bracket.end")
    def on_change(self, *_: Any) -> None:
        """Look at the tree again when the step ends."""
        self.world.rt.judge_later(self.judge)

    def judge(self) -> None:
        """Compare with the last look."""
        subscriptions = self.world.mm.subscriptions
        if subscriptions is None:
            return
        seq, members = subscriptions.invalidate_seq, tuple(subscriptions.itree)
        same = len(members) == len(self.members) and all(
            a is b for a, b in zip(members, self.members, strict=True)
        )
        if seq.odd and seq == self.seq and not same:
            self.world.violated(self.name, (f"the tree changed while mm.seq stayed odd ({seq.n})",))
        if seq != self.seq:
            self.seq = seq
        if not same:
            self.members = members

    @watches("mni.remove")
    def on_remove(self, mni: Any) -> None:
        """Remember who is gone."""
        self.removed = (*self.removed, mni)

    @watches("mni.insert")
    def on_insert(self, mni: Any) -> None:
        """Let it come back."""
        if any(m is mni for m in self.removed):
            self.removed = tuple(m for m in self.removed if m is not mni)

    @watches("object.free")
    def on_free(self, obj: Any) -> None:
        """Leave what is freed to others: its use is worse than a late callback."""
        kept = tuple(
            m for m in self.removed if m is not obj and getattr(m, "region", None) is not obj
        )
        if len(kept) < len(self.removed):
            self.removed = kept

    @watches("callback.enter")
    def on_callback(self, mni: Any, range: MmuNotifierRange) -> None:
        """No callback may come for a subscription whose removal returned."""
        del range
        if any(m is mni for m in self.removed):
            self.world.violated(
                self.name, (f"a callback came for {name_of(mni)} after its removal returned",)
            )
