"""A campaign changes how often garbage is looked for, and only while it runs."""

from __future__ import annotations

import gc

from mshv_async.explore.campaign import explore_sync
from mshv_async.scenario import Scenario
from mshv_async.sim import Runtime

LITMUS = "litmus/two-vps-one-reclaimer"


def test_the_threshold_is_what_it_was_after_a_campaign() -> None:
    before = gc.get_threshold()
    during = []
    explore_sync(
        Scenario.load(LITMUS),
        "fix1",
        schedules=1,
        progress=lambda *_: during.append(gc.get_threshold()),
    )
    assert during
    assert during[0] != before
    assert gc.get_threshold() == before


def test_worlds_do_not_pile_up() -> None:
    alive = []

    def count(*_: int) -> None:
        alive.append(sum(isinstance(obj, Runtime) for obj in gc.get_objects()))

    gc.collect()
    explore_sync(Scenario.load(LITMUS), "fix1", schedules=513, progress=count)
    assert len(alive) == 9
    assert max(alive) < 128


def test_what_a_program_froze_stays_frozen_and_what_nobody_did_does_not() -> None:
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    try:
        for kept in (False, True):
            if kept:
                gc.freeze()
            during: list[int] = []
            explore_sync(
                Scenario.load(LITMUS),
                "fix1",
                schedules=1,
                progress=lambda *_, during=during: during.append(gc.get_freeze_count()),
            )
            assert during[0] > 0
            assert (gc.get_freeze_count() > 0) == kept
    finally:
        gc.unfreeze()
        if frozen:
            gc.freeze()
