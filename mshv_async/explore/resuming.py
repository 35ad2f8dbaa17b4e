"""Going on with a campaign: whether a folder's store is of this campaign, and can be added to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mshv_async.explore.playing import package_version
from mshv_async.explore.store import Identity, Store, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from mshv_async.explore.numbers import Shard
    from mshv_async.explore.playing import Subject


def identity_of(subject: Subject, strategy: str, seed: int, preemptions: int | None) -> Identity:
    """Return what executions are of."""
    scenario, driver = subject.scenario, subject.driver
    return Identity(
        scenario_name=scenario.name,
        scenario=scenario.text,
        files=msgspec.json.encode(scenario.files(), order="deterministic").decode(),
        driver=driver.name,
        driver_source=driver.source,
        strategy=strategy,
        seed=seed,
        preemptions=preemptions,
        package_version=package_version(),
    )


def opened(
    folder: Path,
    identity: Identity,
    shard: Shard,
    schedules: int,
    *,
    keep_going: bool,
    resume: bool,
) -> Store:
    """Return the store to write to: a new one, or with ``resume`` the one that is there.

    Where there is none, ``resume`` begins at the beginning: the campaign may have been killed
    before it had one. Raises StoreError.
    """
    if not resume or not Store.begun(folder):
        store = Store.create(folder, identity, shard)
    else:
        store = Store.open(folder)
        try:
            _check(folder, store, identity, shard, schedules, keep_going=keep_going)
        except StoreError:
            store.close()
            raise
    store.budget(schedules, keep_going=keep_going)
    return store


def _check(
    folder: Path,
    store: Store,
    identity: Identity,
    shard: Shard,
    schedules: int,
    *,
    keep_going: bool,
) -> None:
    """Raise StoreError, one line, unless the store is of this campaign."""
    difference = identity.difference(store.identity)
    if difference is None and store.shard != shard:
        difference = f"its shard is {store.shard}, not {shard}"
    if difference is not None:
        raise StoreError(f"{folder}: holds another campaign: {difference}")
    if store.keep_going and not keep_going:
        raise StoreError(f"{folder}: its campaign was to go on after findings: give --keep-going")
    if store.position > schedules:
        raise StoreError(
            f"{folder}: its campaign has come to schedule {store.position:,}, "
            f"more than {schedules:,}: give --schedules"
        )
