"""A world is set up as the file says: memory of every kind, switches, processes, descriptors."""

from __future__ import annotations

import time

import pytest

from mshv_async.driver import resolve_driver
from mshv_async.hyperv import SlatRules
from mshv_async.scenario import Scenario
from mshv_async.scenario.world import World, WorldPlan, build_runtime
from mshv_async.sim.strategies import Fifo

VP = "summary = 's'\n[[vp]]\nprogram = ['read 0x200']\n"
FOUR_TIB = "[[region]]\ngfn = 0x40000000\nsize = '4TiB'\n"
HUGE = "[host]\nthp = 'madvise'\nmemory = '64MiB'\nhugetlb_2m = 4\n"


def built(text: str, driver: str = "fix1") -> World:
    plan = WorldPlan.of(Scenario.parse(text, "test"), resolve_driver(driver))
    return build_runtime(plan, Fifo()).world  # type: ignore[no-any-return]


@pytest.mark.parametrize("backing", ["anon", "thp", "hugetlb-2m", "hugetlb-1g", "device"])
def test_four_tib_cost_what_four_mib_do(backing: str) -> None:
    start = time.process_time()
    world = built(VP + FOUR_TIB + f"backing = '{backing}'\n" + HUGE)
    assert time.process_time() - start < 0.5
    assert len(world.mm.vmas.runs(0, 1 << 52)) == 1
    assert len(world.hv_partition.slat.runs(0, 1 << 52)) <= 1


def test_a_region_over_several_kinds_of_memory_has_a_mapping_of_each() -> None:
    runs = [("anon", 512), ("hugetlb-2m", 1024), ("thp", 512), ("device", 512)]
    listed = ", ".join(f"{{ backing = '{kind}', pages = {pages} }}" for kind, pages in runs)
    world = built(VP + f"[[region]]\ngfn = 0x200\nsize = '10MiB'\nbacking = [{listed}]\n" + HUGE)
    vmas = [(vma.backing, hi - lo) for lo, hi, vma in world.mm.vmas.runs(0, 1 << 52)]
    assert vmas == runs
    flags = [vma.flags for _, _, vma in world.mm.vmas.runs(0, 1 << 52)]
    assert "HUGETLB" in flags[1]
    assert {"IO", "PFNMAP"} <= set(flags[3])
    assert len(world.partition.pt_mem_regions.regions()) == 1


def test_a_second_region_over_the_same_memory_makes_no_mapping() -> None:
    same = "[[region]]\ngfn = {}\nsize = '8KiB'\nuaddr = 0x7f0000000000\n"
    world = built(VP + same.format(0x200) + same.format(0x400))
    assert len(world.mm.vmas.runs(0, 1 << 52)) == 1


def test_the_switches_reach_the_hypervisor_and_the_host() -> None:
    text = "[host]\nwatermark = 32\nswap = '64KiB'\nkswapd = true\noom_killer = true\n"
    text += "[hypervisor]\nsplit = 'free'\npromotion = true\ntables = 'root'\nroot_pool = 7\n"
    world = built(VP + text)
    assert world.hv.slat_rules == SlatRules(split="free", promotion=True)
    assert (world.hv.tables, world.hv.root.pool.free) == ("root", 7)
    assert (world.host.watermark, world.host.kswapd, world.host.oom_killer) == (32, True, True)
    kernel = [t.name for t in world.rt.all_threads if t.kind == "kernel"]
    assert kernel == ["kswapd0", "oom_reaper"]


def test_a_process_has_touched_its_memory() -> None:
    world = built(VP + "[[process]]\nname = 'helper'\nmemory = '1MiB'\n")
    helper = world.vmm.others["helper"]
    assert world.host.nr_free == world.host.pages - 1 - 256
    assert sum(hi - lo for lo, hi, _ in helper.mm.ptes.runs(0, 1 << 52)) == 256
    assert [t.name for t in helper.mm.threads] == ["helper"]
    assert world.host.mms == (world.mm, helper.mm)


def test_the_table_has_the_partition_first_and_what_no_program_creates() -> None:
    create = "[[thread]]\nkind = 'vmm'\nprogram = ['create-vp 1']\n"
    three = "summary = 's'\n[[vp]]\ncount = 3\nprogram = ['read 0x200']\n"
    files = built(three + create).vmm.files.table
    assert [file.name for file in files if file] == ["file.partition", "file.vp0", "file.vp2"]


def test_two_processes_name_one_file() -> None:
    text = VP + "process = 'helper'\n[[process]]\nname = 'helper'\n"
    world = built(text)
    file = world.vmm.files.get(4)
    assert file is not None
    assert file is world.vmm.others["helper"].files.get(3)
    assert file.count == 2
