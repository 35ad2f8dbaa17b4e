"""All invariants, and how they are attached to a world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.oracle.access_not_absent import AccessNotAbsent
from mshv_async.oracle.atomic_failure import AtomicFailure
from mshv_async.oracle.bounded_memory import BoundedMemory
from mshv_async.oracle.coherence import Coherence
from mshv_async.oracle.deposit_accounting import DepositAccounting
from mshv_async.oracle.guest_data import GuestData
from mshv_async.oracle.guest_killed import GuestKilled
from mshv_async.oracle.invariant import Invariant, LateInvariant
from mshv_async.oracle.kick import Kick
from mshv_async.oracle.large_page_shape import LargePageShape
from mshv_async.oracle.nonblockable_refusal import NonblockableRefusal
from mshv_async.oracle.notifier_sequence import NotifierSequence
from mshv_async.oracle.notifier_tree import NotifierTree
from mshv_async.oracle.page_array import PageArray
from mshv_async.oracle.pin_stability import PinStability
from mshv_async.oracle.reclaim_under_lock import ReclaimUnderLock
from mshv_async.oracle.region_ownership import RegionOwnership
from mshv_async.oracle.rights import Rights
from mshv_async.oracle.stale_mapping import StaleMapping
from mshv_async.oracle.teardown_clean import TeardownClean
from mshv_async.oracle.watching import subscriptions
from mshv_async.sim.current import instrumented
from mshv_async.sim.shared import model_class

if TYPE_CHECKING:
    from mshv_async.oracle.observed import Observed

INVARIANTS: tuple[type[Invariant], ...] = (
    PinStability,  # first: a pinned page that is freed is stale too, but that says less
    StaleMapping,
    Coherence,
    GuestData,
    PageArray,
    NotifierSequence,
    NotifierTree,
    RegionOwnership,
    Rights,
    LargePageShape,
    AccessNotAbsent,
    AtomicFailure,
    NonblockableRefusal,
    DepositAccounting,
    ReclaimUnderLock,
    Kick,
    TeardownClean,
    BoundedMemory,
)


def attach(world: Observed) -> list[Invariant]:
    """Let the oracle watch a world that has just been set up; return the watchers."""
    world.take_stock()
    attached = [invariant(world) for invariant in (*INVARIANTS, GuestKilled)]
    watchers = (world, *attached)
    late = [invariant for invariant in attached if isinstance(invariant, LateInvariant)]
    beginning = tuple(w in late and w.watching for w in watchers)
    world.rt.listen(subscriptions(tuple(map(model_class, watchers)), beginning), watchers)
    for invariant in late:
        invariant.attached()
        if instrumented.get():
            invariant.listen()
    return attached


def invariant_list() -> list[tuple[str, str]]:
    """Return name and summary of each invariant."""
    return [(invariant.invariant, invariant.summary) for invariant in INVARIANTS]
