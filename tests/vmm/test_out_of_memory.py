"""Who runs out of memory gets it from a process that is killed: another one, or its own."""

from __future__ import annotations

import pytest
from scenario_playing import play, told, verdict, vp

SMALL = """summary = "s"
[host]
memory = "1MiB"
watermark = 4
oom_killer = true
[[region]]
gfn = 0x200
size = "{size}"
"""
BATCH = "[[process]]\nname = 'batch'\nmemory = '960KiB'\n"


@pytest.mark.parametrize("seed", range(6))
def test_the_largest_process_is_killed_and_the_guest_goes_on(seed):
    rt = play(SMALL.format(size="128KiB") + BATCH + vp("write 0x200", "read 0x210"), seed=seed)
    assert verdict(rt) == "clean"
    assert [f["mm"] for _, f in told(rt, "oom.kill")] == ["batch"]
    assert len(told(rt, "guest.access")) == 2
    assert rt.world.mm.users.count == 1
    assert rt.world.host.nr_free == rt.world.host.pages - 1 - 32


@pytest.mark.parametrize("seed", range(6))
def test_a_vmm_that_is_the_largest_goes_itself(seed):
    rt = play(SMALL.format(size="2MiB") + vp("write 0x200", "read 0x210"), seed=seed)
    assert verdict(rt) == "clean"
    assert [f["mm"] for _, f in told(rt, "oom.kill")] == ["mm0"]
    assert rt.world.mm.users.count == 0
    assert rt.world.hv.partition(rt.world.hv_partition.id) is None
