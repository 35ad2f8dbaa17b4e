"""Threads of a scenario: what they do, whom signals reach, when they end."""

from __future__ import annotations

import pytest
from vmm_machine import GFN, Machine, argument, read, touches, verdict, write

from mshv_async.sim.strategies import RandomWalk


def events(rt, name):
    return [fields for _, _, _, fields in rt.notes if fields["event"] == name]


def test_host_operations_go_through_the_page_table():
    machine = Machine(regions=[argument()])
    rt = machine.play({"host": ["store 0x200 x", "touch 0x200", "store 0x201"]}, keep=True)
    assert [e["ret"] for e in events(rt, "op.end")] == ["0", "x", "0"]
    pte = machine.mm.ptes.get(argument().userspace_addr + 4096 >> 12)
    assert machine.host.content(pte.pfn) == "host.1"


def test_a_failing_system_call_is_logged_and_the_program_goes_on():
    machine = Machine(regions=[argument()])
    program = ["munmap 0x200 2", "touch 0x200", "store 0x200", "sleep 5"]
    rt = machine.play({"host": program}, keep=True)
    assert verdict(rt) == "clean"
    assert [e["failed"] for e in events(rt, "op.end")] == [False, True, True, False]


def test_a_raw_address_needs_no_region():
    machine = Machine(regions=[argument()])
    rt = machine.play({"host": [f"store @{argument().userspace_addr} y", "touch 0x200"]}, keep=True)
    assert [e["ret"] for e in events(rt, "op.end")] == ["0", "y"]


def test_a_second_unmap_repeats_the_arguments_and_is_refused():
    machine = Machine("v9")
    machine.play({"vmm": ["map 0x200 8KiB", "unmap 0x200", "unmap 0x200", "unmap 0x700"]})
    assert [ret for _, ret in machine.ioctls] == [0, 0, -2, -2]


def test_unmap_of_a_region_of_the_set_up():
    machine = Machine(regions=[argument()])
    machine.play({"vmm": ["unmap 0x200", "touch 0x200"]})
    assert machine.ioctls == [("unmap_user_memory", 0)]
    assert machine.regions() == []
    # The VMA stays.
    assert machine.mm.vmas.get(argument().userspace_addr >> 12) is not None


def test_map_makes_a_vma_only_where_there_is_none():
    machine = Machine()
    program = ["map 0x200 8KiB", "unmap 0x200", "store 0x200 kept", "map 0x200 8KiB", "touch 0x200"]
    rt = machine.play({"vmm": program}, keep=True)
    assert events(rt, "op.end")[-1]["ret"] == "kept"
    assert len(events(rt, "vmm.mmap")) == 1


@pytest.mark.parametrize("seed", range(4))
def test_kill_ends_the_process_and_not_the_reclaimer(seed):
    machine = Machine(guests=[touches(write(GFN), read(GFN))], regions=[argument()], swap_pages=8)
    programs = {
        "vmm": ["kill", "map 0x400 4KiB"],
        "host": ["repeat 9 madvise dontneed 0x200 1"],
        "reclaimer": ["repeat 3 reclaim 0x200 2"],
    }
    rt = machine.play(programs, strategy=RandomWalk(seed), keep=True)
    assert verdict(rt) == "clean"
    assert machine.ioctls == []
    done = [name for _, _, name, fields in rt.notes if fields["event"] == "op.end"]
    assert done.count("reclaimer") == 3


def test_the_reaper_takes_what_it_can():
    machine = Machine(guests=[touches(write(GFN))], regions=[argument()])
    rt = machine.play({"oom-reaper": ["sleep 9000000", "reap"]}, mode="timed")
    assert verdict(rt) == "clean"
    assert not machine.slat.get(GFN).rights
    assert machine.mm.ptes.get(argument().userspace_addr >> 12) is None


def test_endless_programs_end_after_the_others():
    machine = Machine(guests=[touches(write(GFN), write(GFN + 1))], regions=[argument()])
    rt = machine.play(
        {"host": ["forever madvise dontneed 0x200 1; touch 0x201"]}, strategy=RandomWalk(3)
    )
    assert verdict(rt) == "clean"
    assert len(machine.accesses) == 2


def test_an_exit_that_the_kernel_left_ends_the_guest_operation():
    """gfn 0x900 is no region's: the VMM takes it for a device and the guest goes on."""
    machine = Machine(guests=[touches(read(0x900), write(GFN))], regions=[argument()])
    rt = machine.play()
    assert verdict(rt) == "clean"
    assert machine.unhandled == [0x900]
    assert [kind for kind, _, _ in machine.accesses] == ["0w"]


def test_a_region_that_is_mapped_again_has_a_name_of_its_own():
    """Reports of two regions at one gfn can be told apart."""
    machine = Machine("fix1", regions=[argument()])
    machine.play({"vmm": ["unmap 0x200", "map 0x200 8KiB", "map 0x400 4KiB"]})
    assert [region.name for region in machine.regions()] == ["region@0x400", "region@0x200#2"]
