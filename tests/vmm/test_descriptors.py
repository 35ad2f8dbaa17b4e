"""Descriptors: a file lives until the last that names it is closed and the last call on it ends."""

from __future__ import annotations

import pytest
from scenario_playing import HELPER, HYPERVISOR, REGION, play, results, thread, told, verdict, vp

from mshv_async.sim import Shared
from mshv_async.vmm import FIRST_FD, File, Files

ONE_VP = vp("write 0x200", "read 0x201")
ELSEWHERE = vp("write 0x200", "read 0x201", more="process = 'helper'") + HELPER


def test_the_lowest_free_descriptor_is_given_again():
    files = Files("files")
    partition, processor = File("partition", Shared("p"), None), File("vp", Shared("v"), 0)
    assert [files.install(f) for f in (partition, processor)] == [FIRST_FD, FIRST_FD + 1]
    assert files.remove(FIRST_FD) is partition
    assert files.get(FIRST_FD) is None
    assert files.install(processor) == FIRST_FD
    assert processor.count == 2
    assert files.fd_of("vp", 0) == FIRST_FD
    assert files.fd_of("partition") is None
    assert files.get(FIRST_FD + 9) is None


def test_what_is_closed_cannot_be_closed_or_used_again():
    program = ["close partition", "close partition", "dup partition", "map 0x400 4KiB"]
    rt = play(REGION + ONE_VP + thread("vmm", *program, "unmap 0x200", "create-vp 7"))
    assert verdict(rt) == "clean"
    assert results(rt, "close") == ["0", "-9"]
    failures = [results(rt, name) for name in ("dup", "map", "unmap", "create-vp")]
    assert failures == [["-9"]] * 4


@pytest.mark.parametrize("order", ["vp partition", "partition vp"])
@pytest.mark.parametrize("scheduler", ["", HYPERVISOR], ids=["root", "hypervisor"])
@pytest.mark.parametrize("seed", range(12))
def test_the_partition_goes_with_the_last_of_its_descriptors(order, scheduler, seed):
    closes = [{"vp": "close vp 0", "partition": "close partition"}[word] for word in order.split()]
    rt = play(REGION + ONE_VP + thread("vmm", *closes) + scheduler, seed=seed)
    assert verdict(rt) == "clean"
    assert rt.world.hv.partition(rt.world.hv_partition.id) is None
    assert rt.world.mm.users.count == 1


def test_a_call_under_way_keeps_the_file():
    """Whoever is in RUN_VP when the descriptor is closed releases the file on the way out."""
    rt = None
    for seed in range(60):
        rt = play(REGION + ONE_VP + thread("vmm", "close vp 0"), seed=seed)
        assert verdict(rt) == "clean"
        actors = {str(f["event"]): name for _, _, name, f in rt.notes if "file" in f}
        if actors["file.release"] == "vp0":
            break
    assert actors == {"file.close": "vmm", "file.release": "vp0"}


@pytest.mark.parametrize("seed", range(6))
def test_a_descriptor_elsewhere_lets_the_partition_outlive_the_process(seed):
    """The processor goes on in the helper; where it faults, the exit is left to user space."""
    rt = play(REGION + ELSEWHERE + thread("vmm", "exit"), "v6", seed=seed)
    assert rt.world.mm.users.count == 0
    assert rt.world.hv.partition(rt.world.hv_partition.id) is not None
    assert rt.world.partition.pt_ref_count.count == 1
    assert next(t for t in rt.all_threads if t.name == "vp0").finished


def test_a_fault_after_the_exit_finds_no_memory_and_ends_the_operation():
    """The guest begins when the VMM is gone: both its accesses leave the kernel unhandled."""
    later = vp("sleep 1", "write 0x200", "read 0x201", more="process = 'helper'") + HELPER
    rt = play(REGION + thread("vmm", "exit") + later, mode="timed")
    assert verdict(rt) == "clean"
    assert [f["gfn"] for _, f in told(rt, "vmm.exit")] == [0x200, 0x201]


def test_the_partition_goes_when_the_other_process_exits_too():
    rt = play(
        REGION
        + ELSEWHERE
        + thread("vmm", "exit")
        + thread("vmm", "sleep 1000000", "exit", more="process = 'helper'"),
        mode="timed",
    )
    assert verdict(rt) == "clean"
    assert rt.world.hv.partition(rt.world.hv_partition.id) is None
