"""All invariants, and how they are attached to a world."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

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
from mshv_async.oracle.observed import Observed
from mshv_async.oracle.page_array import PageArray
from mshv_async.oracle.pin_stability import PinStability
from mshv_async.oracle.reclaim_under_lock import ReclaimUnderLock
from mshv_async.oracle.region_ownership import RegionOwnership
from mshv_async.oracle.rights import Rights
from mshv_async.oracle.stale_mapping import StaleMapping
from mshv_async.oracle.teardown_clean import TeardownClean
from mshv_async.oracle.watching import subscriptions
from mshv_async.sim.current import instrumented

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mshv_async.sim.facts import Subscription

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
    classes, places = _classes(INVARIANTS)
    attached: list[Invariant] = [cls(world) for cls in classes]
    late = [cast(LateInvariant, attached[at]) for at in places]
    beginning = tuple(invariant.watching for invariant in late)
    world.rt.listen(_subscriptions(INVARIANTS, beginning), (world, *attached))
    for invariant in late:
        invariant.attached()
        if instrumented.get():
            invariant.listen()
    return attached


@cache
def _classes(
    invariants: tuple[type[Invariant], ...],
) -> tuple[tuple[type[Invariant], ...], tuple[int, ...]]:
    """Return what is attached, and which of that begins to watch late."""
    classes = (*invariants, GuestKilled)
    return classes, tuple(i for i, cls in enumerate(classes) if issubclass(cls, LateInvariant))


@cache
def _subscriptions(
    invariants: tuple[type[Invariant], ...], watching: tuple[bool, ...]
) -> Mapping[str, tuple[Subscription, ...]]:
    """Return the facts that the world and its invariants watch from the start."""
    classes, places = _classes(invariants)
    beginning = [False] * (1 + len(classes))
    for at, early in zip(places, watching, strict=True):
        beginning[1 + at] = early
    return subscriptions((Observed, *classes), tuple(beginning))


def invariant_list() -> list[tuple[str, str]]:
    """Return name and summary of each invariant."""
    return [(invariant.invariant, invariant.summary) for invariant in INVARIANTS]
