"""Processors that programs create, and signals to the threads that run them."""

from __future__ import annotations

import pytest
from scenario_playing import HELPER, HYPERVISOR, REGION, play, results, thread, told, verdict, vp


@pytest.mark.parametrize("seed", range(6))
def test_a_created_processor_runs_its_program(seed):
    rt = play(REGION + vp("write 0x200 x", "read 0x200") + thread("vmm", "create-vp 0"), seed=seed)
    assert verdict(rt) == "clean"
    assert [f["tag"] for _, f in told(rt, "guest.access")] == ["x", "x"]
    assert len(rt.world.guests) == 1


def test_the_others_of_the_set_up_keep_their_indices_and_programs():
    text = vp("write 0x200 a") + vp("write 0x201 b")
    rt = play(REGION + text + thread("vmm", "create-vp 0"))
    assert sorted((f["vp"], f["tag"]) for _, f in told(rt, "guest.access")) == [(0, "a"), (1, "b")]
    assert sorted(rt.world.hv_partition.vps) == [0, 1]


def test_bad_and_used_indices_are_refused_and_the_descriptor_is_returned():
    program = ["create-vp 1", "create-vp 1", "create-vp 256", "create-vp 9"]
    rt = play(REGION + vp("write 0x200") + thread("vmm", *program))
    assert results(rt, "create-vp") == ["5", "-17", "-22", "6"]
    assert verdict(rt) == "clean"


def test_nobody_waits_for_a_processor_that_was_not_to_be():
    inject = "[[inject]]\nat = 'hypercall.create_vp'\nstatus = 'OPERATION_FAILED'\nforce = true\n"
    rt = play(REGION + vp("write 0x200") + thread("vmm", "create-vp 0") + inject)
    assert verdict(rt) == "clean"
    assert not rt.world.guests


def test_a_process_that_ends_before_its_processor_exists_ends():
    program = ["kill", "create-vp 0"]
    rt = play(REGION + vp("write 0x200") + thread("vmm", *program))
    assert verdict(rt) == "clean"
    assert rt.world.mm.users.count == 0


def test_a_created_processor_may_be_run_by_another_process():
    text = vp("write 0x200", more="process = 'helper'") + HELPER
    rt = play(REGION + text + thread("vmm", "create-vp 0"))
    assert [f["gfn"] for _, f in told(rt, "guest.access")] == [0x200]
    assert rt.world.vmm.others["helper"].files.fd_of("vp", 0) is not None


@pytest.mark.parametrize("scheduler", ["", HYPERVISOR], ids=["root", "hypervisor"])
def test_a_signal_ends_the_ioctl_and_the_vmm_runs_the_processor_again(scheduler):
    interrupted = 0
    for seed in range(12):
        text = vp("write 0x200", "read 0x201") + thread("vmm", "signal vp0", "signal vp0")
        rt = play(REGION + text + scheduler, seed=seed)
        assert verdict(rt) == "clean"
        assert len(told(rt, "guest.access")) == 2
        interrupted += sum(f["ret"] == -4 for _, f in told(rt, "ioctl.return"))
    assert interrupted
