"""A VP that another process runs faults while the VMM's address space ends (C17)."""

from __future__ import annotations

from errno import EFAULT

import pytest
from driver_world import GFN, Machine, Planted, argument, verdict

from mshv_async.host import mmput
from mshv_async.sim import current
from mshv_async.sim.strategies import RandomWalk

PROFILES = ["v6", "v7", "v9", "fix1"]
STACKS = [
    "mmget-in-fault",
    "killable-retry+mmget-in-fault+range-retry+deposit-outside-mutex",
    "deposit-outside-mutex+range-retry+mmget-in-fault+killable-retry",
]
SPECS = [f"{profile}+{stack}" for profile in PROFILES for stack in STACKS]


def accessible(machine):
    return [e for e in machine.entries() if e[2] == "ram"]


def fault_and_exit(driver, strategy):
    """The fault's errno, the pages left in the address space, who ended it under which locks."""
    machine = Machine(driver, regions=[argument()])
    results, ended = [], []

    async def other_process():
        current().mm = None  # the VMM's address space is not its own
        results.append(await machine.driver.region_range_fault(machine.regions()[0], 0, 2))

    def swept(mm):
        ended.append((current().name, [lock.name for lock in current().held]))

    rt = machine.play(
        bodies={"fault": other_process, "exit": lambda: mmput(machine.mm)},
        strategy=strategy,
        watch={"vma.change": swept},
    )
    assert verdict(rt) == "clean", rt.finding
    return machine, results[0], ended


BEHIND_THE_SWEEP = [("exit", "rwsem.write_arrive"), ("fault", None), ("exit", None)]
IN_THE_FAULT = [("fault", "mutex.lock"), ("exit", None), ("fault", None)]


@pytest.mark.parametrize("driver", PROFILES)
def test_c17_a_fault_behind_the_sweep_leaves_pages_that_nobody_frees(driver):
    machine, ret, _ = fault_and_exit(driver, Planted(BEHIND_THE_SWEEP))
    assert ret == 0
    assert accessible(machine)
    assert machine.mm.ptes.runs(0, 1 << 40)


@pytest.mark.parametrize("driver", SPECS)
def test_c17_mended_such_a_fault_fails_and_leaves_nothing(driver):
    machine, ret, _ = fault_and_exit(driver, Planted(BEHIND_THE_SWEEP))
    assert ret == -EFAULT
    assert accessible(machine) == []
    assert machine.mm.ptes.runs(0, 1 << 40) == []


@pytest.mark.parametrize("driver", SPECS)
def test_c17_mended_the_fault_that_came_first_ends_the_address_space_outside_all_locks(driver):
    machine, ret, ended = fault_and_exit(driver, Planted(IN_THE_FAULT))
    assert ret == 0
    assert ended == [("fault", ["mm0.mmap_lock"])]  # exit's own, for the VMAs
    assert accessible(machine) == []
    assert machine.mm.ptes.runs(0, 1 << 40) == []


@pytest.mark.parametrize("driver", SPECS)
@pytest.mark.parametrize("seed", range(4))
def test_c17_mended_nothing_is_left_whoever_comes_first(driver, seed):
    machine, ret, ended = fault_and_exit(driver, RandomWalk(seed))
    assert ret in (0, -EFAULT)
    assert len(ended) == 1
    assert accessible(machine) == []
    assert machine.mm.ptes.runs(0, 1 << 40) == []
    assert machine.mm.users.count == 0


def test_c17_mended_faults_keep_no_users():
    machine = Machine("fix1+mmget-in-fault", regions=[argument()])
    region = machine.regions()[0]
    assert machine.call(*[lambda d: d.region_range_fault(region, 0, 2)] * 3) == [0, 0, 0]
    assert machine.mm.users.count == 1
    assert machine.entries(GFN, GFN + 2)[0][2] == "ram"
