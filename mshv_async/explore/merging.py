"""The command ``merge``: what several shards of a campaign have come to, as one campaign.

Complete shards merge to exactly what one machine would have found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from mshv_async.driver import resolve_driver
from mshv_async.explore.batches import End
from mshv_async.explore.campaign import Campaign
from mshv_async.explore.catalogue import make_strategy
from mshv_async.explore.interrupts import interrupts
from mshv_async.explore.playing import Subject
from mshv_async.explore.results import CampaignError
from mshv_async.explore.store import Identity, Store
from mshv_async.explore.tally import Tally
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mshv_async.explore.numbers import Shard
    from mshv_async.explore.results import CampaignResult


@dataclass(frozen=True, slots=True)
class Part:
    """What one folder holds: which shard, how far it has come, and out of what budget."""

    folder: Path
    identity: Identity
    shard: Shard
    position: int
    end: End | None
    schedules: int
    keep_going: bool
    seconds: float

    @classmethod
    def of(cls, folder: Path, store: Store) -> Part:
        """Read it from a store."""
        return cls(
            folder=folder,
            identity=store.identity,
            shard=store.shard,
            position=store.position,
            end=store.end,
            schedules=store.schedules,
            keep_going=store.keep_going,
            seconds=store.seconds,
        )

    @property
    def stop(self) -> int:
        """The number at which it, and so the whole campaign, ends."""
        ended = self.end is End.FINDING and not self.keep_going
        return self.position if ended else self.schedules

    def lacks(self, stop: int) -> bool:
        """Say whether executions below ``stop`` are still to be played."""
        return self.end is not End.EXHAUSTED and self.shard.following(self.position) < stop


@dataclass(frozen=True, slots=True)
class Merged:
    """One campaign of all the parts; ``missing`` says, a line each, what is still to be played."""

    identity: Identity
    tally: Tally
    end: End | None
    seconds: float
    missing: list[str]


def merge_folders(folders: Sequence[Path]) -> Merged:
    """Add up the campaigns in some folders. Raises CampaignError: they are not one campaign's."""
    parts: list[Part] = []
    for folder in folders:
        store = Store.open(folder)
        parts.append(Part.of(folder, store))
        store.close()
    _check(parts)
    stop = min(part.stop for part in parts)
    tally = Tally()
    for part in parts:
        store = Store.open(part.folder)
        tally.merge(store.tally(below=stop))
        store.close()
    return Merged(
        identity=parts[0].identity,
        tally=tally,
        end=End.FINDING if stop < parts[0].schedules else None,
        seconds=sum(part.seconds for part in parts),
        missing=_missing(parts, stop),
    )


def _check(parts: list[Part]) -> None:
    first = parts[0]
    for number, part in enumerate(parts):
        difference = first.identity.difference(part.identity)
        for what in ("schedules", "keep_going"):
            mine, theirs = getattr(first, what), getattr(part, what)
            if difference is None and mine != theirs:
                difference = f"its {what.replace('_', ' ')} is {theirs}, not {mine}"
        if difference is None and part.shard.parts != first.shard.parts:
            difference = f"it is one of {part.shard.parts} parts, not of {first.shard.parts}"
        if difference is not None:
            raise CampaignError(f"{part.folder}: holds another campaign: {difference}")
        for other in parts[:number]:
            if other.shard == part.shard:
                where = f"{other.folder} and {part.folder}"
                raise CampaignError(f"{where}: both hold shard {part.shard}")


def _missing(parts: list[Part], stop: int) -> list[str]:
    have = {part.shard.part: part for part in parts}
    whole = parts[0].shard
    lines = []
    for number in range(1, whole.parts + 1):
        shard, part = replace(whole, part=number), have.get(number)
        if part is None:
            if shard.following(0) < stop:
                lines.append(f"shard {shard} is missing")
        elif part.lacks(stop):
            lines.append(f"{part.folder}: shard {shard} has come to {part.position:,} of {stop:,}")
    return lines


def merged_campaign(merged: Merged, *, trust: bool, shrink: bool) -> CampaignResult:
    """Replay what the parts found, and return the campaign.

    Raises CampaignError if it takes a user's driver that nobody vouched for, DriverError.
    """
    of = merged.identity
    if of.driver_source is not None and not trust:
        raise CampaignError(
            f"the campaign is of driver source that its folders carry ({of.driver}), which would "
            "run as part of this program: read it, then merge with --trust"
        )
    scenario = Scenario.parse(of.scenario, of.scenario_name, files=msgspec.json.decode(of.files))
    subject = Subject(scenario, resolve_driver(of.driver, of.driver_source))

    campaign = Campaign(
        subject,
        make_strategy(of.strategy, seed=of.seed, preemptions=of.preemptions),
        strategy_name=of.strategy,
        seed=of.seed,
        shrinks=shrink,
        preemptions=of.preemptions,
    )
    campaign.begin_with(merged.tally, merged.end, merged.seconds)
    campaign.interrupted = bool(merged.missing)
    with interrupts(campaign.stop):
        run_on_stage(campaign.finish)
    return campaign.result()
