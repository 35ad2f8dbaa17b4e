"""Ends of processes hide no state and race on nothing: the checks of the model stay silent."""

from __future__ import annotations

import pytest
from scenario_playing import HELPER, HYPERVISOR, REGION, thread, vp

from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.checking import ModelChecks
from mshv_async.scenario import Scenario

SITUATIONS = {
    "exit": vp("write 0x200", "read 0x201") + thread("vmm", "dup partition", "exit"),
    "exit beside a process": vp("write 0x200", more="process = 'helper'")
    + HELPER
    + thread("vmm", "exit")
    + thread("vmm", "exit", more="process = 'helper'"),
    "closes": vp("write 0x200") + thread("vmm", "close vp 0", "close partition"),
    "created and signalled": vp("write 0x200")
    + thread("vmm", "create-vp 0", "signal vp0")
    + HYPERVISOR,
    "two that kick first": vp("write 0x200") + vp("write 0x201") + HYPERVISOR,
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_checks_of_the_model_are_silent(name):
    checks = ModelChecks()
    explore_sync(
        Scenario.parse(REGION + SITUATIONS[name], name),
        "fix1",
        strategy="random",
        schedules=8,
        keep_going=True,
        checks=checks,
    )
    assert checks.complaints() == []
    assert checks.states > 10
