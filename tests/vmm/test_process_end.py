"""How a process ends: threads, address space, descriptors, in the kernel's order (spec.md 1.6)."""

from __future__ import annotations

import pytest
from scenario_playing import HELPER, HYPERVISOR, REGION, play, results, thread, told, verdict, vp

TWO_VPS = vp("write 0x200", "read 0x201") + vp("write 0x201")
ORDER = ("process.exit", "vmm.kill", "mm.exit", "process.closes", "file.close", "file.release")


def order(rt):
    return [f.get("file", event) for event, f in told(rt, *ORDER)]


def gone(rt):
    """Whether the partition was destroyed on both sides."""
    return rt.world.hv.partition(rt.world.hv_partition.id) is None


def test_the_address_space_goes_before_the_descriptors_and_those_in_table_order():
    rt = play(REGION + TWO_VPS + thread("vmm", "exit"))
    assert verdict(rt) == "clean"
    assert order(rt) == [
        "process.exit",
        "mm.exit",
        "process.closes",
        *["file.partition"] * 2,
        *["file.vp0"] * 2,
        *["file.vp1"] * 2,
    ]
    assert gone(rt)
    assert not rt.world.mm.vmas.runs(0, 1 << 52)


def test_a_duplicate_puts_the_partition_behind_the_processors():
    rt = play(REGION + TWO_VPS + thread("vmm", "dup partition", "close partition", "exit"))
    assert verdict(rt) == "clean"
    closed = [f["file"] for _, f in told(rt, "file.close")]
    assert closed == ["file.partition", "file.vp0", "file.vp1", "file.partition"]
    assert [f["fd"] for _, f in told(rt, "file.close")] == [3, 4, 5, 6]
    assert [f["file"] for _, f in told(rt, "file.release")][-1] == "file.partition"
    assert gone(rt)


@pytest.mark.parametrize("scheduler", ["", HYPERVISOR], ids=["root", "hypervisor"])
@pytest.mark.parametrize("how", ["exit", "kill"])
@pytest.mark.parametrize("seed", range(12))
def test_processors_running_blocked_or_faulting_do_not_hold_the_end_up(scheduler, how, seed):
    rt = play(REGION + TWO_VPS + thread("vmm", how) + scheduler, seed=seed)
    assert verdict(rt) == "clean"
    assert gone(rt)
    assert rt.world.mm.users.count == 0


@pytest.mark.parametrize("scheduler", ["", HYPERVISOR], ids=["root", "hypervisor"])
@pytest.mark.parametrize("seed", range(4))
def test_a_killed_thread_leaves_a_guest_that_never_stops(scheduler, seed):
    rt = play(REGION + vp("forever write 0x200") + thread("vmm", "kill") + scheduler, seed=seed)
    assert verdict(rt) == "clean"
    assert gone(rt)


def test_who_came_to_the_end_of_a_program_does_not_keep_the_process():
    rt = play(REGION + thread("host", "touch 0x200") + thread("vmm", "sleep 9", "exit"))
    assert results(rt, "touch") == ["0"]
    assert gone(rt)


def test_the_reaper_s_victim_exits_too():
    rt = play(REGION + vp("write 0x200") + thread("oom-reaper", "reap"))
    assert verdict(rt) == "clean"
    assert gone(rt)


def test_a_process_that_nobody_ends_stays():
    rt = play(REGION + TWO_VPS)
    assert verdict(rt) == "clean"
    assert order(rt) == []
    assert rt.world.mm.users.count == 1


def test_another_process_has_memory_and_gives_it_back_when_it_is_killed():
    rt = play(REGION + HELPER + thread("vmm", "sleep 1", "kill helper"))
    helper = rt.world.vmm.others["helper"]
    assert verdict(rt) == "clean"
    assert rt.world.host.nr_free == rt.world.host.pages - 1
    assert helper.mm.users.count == 0
    assert rt.world.mm.users.count == 1


@pytest.mark.parametrize("seed", range(4))
def test_the_reaper_takes_the_memory_of_the_process_that_it_is_told(seed):
    rt = play(REGION + HELPER + vp("write 0x200") + thread("oom-reaper", "reap helper"), seed=seed)
    assert verdict(rt) == "clean"
    assert rt.world.host.nr_free >= rt.world.host.pages - 3
    assert not any(t.fatal_pending for t in rt.world.mm.threads)
