"""Unusual but correct worlds: the oracle neither fails nor complains."""

from __future__ import annotations

import pytest
from oracle_playing import READ_ONLY_REGION, REGION, SWAP, search, silent, thread, vps
from sound_drivers import Sound

from mshv_async.driver import HMM_PFN_REQ_FAULT, HV_MAP_GPA_WRITABLE

PINNED = "[partition]\nmmu_notifier = false\n"
BY_HYPERVISOR = '[hypervisor]\nscheduler = "hypervisor"\n'
ALIASES = """
[[region]]
gfn = 0x200
size = "8KiB"
uaddr = 0x100000200000

[[region]]
gfn = 0x400
size = "12KiB"
uaddr = 0x100000200000
"""
NEIGHBOURS = """
[[region]]
gfn = 0x200
size = "4KiB"

[[region]]
gfn = 0x201
size = "4KiB"
uaddr = 0x100010000000
"""

WORLDS = {
    "two regions of one memory": ALIASES
    + vps("write 0x200", "read 0x400", "write 0x401")
    + vps("write 0x401", "read 0x201", "read 0x402")
    + thread("host", "madvise dontneed @0x100000200000 2", "store @0x100000201000"),
    "regions side by side": NEIGHBOURS
    + vps("write 0x200", "read 0x201")
    + vps("write 0x201", "read 0x200")
    + thread("host", "madvise dontneed 0x200 1")
    + thread("vmm", "unmap 0x201"),
    "mapped and unmapped again": REGION
    + vps("write 0x200", "read 0x201", count=2)
    + thread("vmm", "unmap 0x200", "map 0x200 8KiB", "unmap 0x200", "map 0x200 8KiB"),
    "two threads unmap": REGION
    + vps("write 0x200", "read 0x201")
    + thread("vmm", "unmap 0x200")
    + thread("vmm", "unmap 0x200", "map 0x200 8KiB", "unmap 0x200"),
    "a kill between ioctls": REGION
    + vps("read 0x200")
    + thread("vmm", "unmap 0x200", "map 0x200 8KiB", "kill")
    + thread("vmm", "unmap 0x200", "map 0x200 8KiB"),
    "a map without memory": thread("vmm", "map 0x200 8KiB", "unmap 0x200", "map 0x200 8KiB")
    + '\n[[inject]]\nat = "alloc.region"\nerrno = "ENOMEM"\n',
    "a smaller region in the place of a larger": REGION
    + vps("write 0x200", "write 0x201")
    + thread("vmm", "unmap 0x200", "map 0x201 4KiB"),
    "all memory goes, then the region": REGION
    + vps("write 0x200")
    + thread("vmm", "munmap 0x200 2", "unmap 0x200")
    + thread("host", "munmap 0x200 1"),
    "rights that come back": REGION
    + thread("host", "store 0x200", "mprotect 0x200 2 r", "mprotect 0x200 2 rw", "touch 0x201")
    + thread("vmm", "mprotect 0x200 1 none", "store 0x201", "mprotect 0x200 1 rw"),
    "pinned at set-up": PINNED
    + REGION
    + vps("write 0x200", "read 0x200", "write 0x201")
    + thread("vmm", "unmap 0x200", "map 0x200 8KiB", "unmap 0x200")
    + thread("host", "madvise dontneed 0x200 2", "store 0x200", "munmap 0x200 1"),
    "pinned by a map": PINNED
    + vps("write 0x200", "read 0x200")
    + thread("vmm", "map 0x200 8KiB", "unmap 0x200"),
    "scheduled by the hypervisor": BY_HYPERVISOR
    + REGION
    + vps("write 0x200", "read 0x201", "read 0x200", count=2)
    + thread("host", "madvise dontneed 0x200 1", "madvise dontneed 0x201 1"),
    "killed under the hypervisor's scheduler": BY_HYPERVISOR
    + REGION
    + vps("write 0x200", "read 0x201", count=2)
    + thread("host", "madvise dontneed 0x200 1")
    + thread("vmm", "kill"),
    "killed while faults are served": REGION
    + vps("write 0x200", "read 0x201", count=2)
    + thread("vmm", "kill")
    + thread("host", "madvise dontneed 0x200 2"),
    "reaped": REGION
    + vps("write 0x200", "read 0x201", count=2)
    + thread("oom-reaper", "reap")
    + thread("host", "madvise dontneed 0x200 2"),
    "swap, lazy freeing and stores": SWAP
    + REGION
    + vps("read 0x200", "write 0x201", "read 0x201", count=2)
    + thread("host", "store 0x200", "madvise free 0x200 1", "store 0x200", "touch 0x200")
    + thread("reclaimer", "repeat 2 reclaim 0x200 2", "reclaim some 2"),
    "pageout from all sides": SWAP
    + REGION
    + vps("write 0x200", "read 0x200", "write 0x201", "read 0x201")
    + thread("host", "madvise pageout 0x200 2", "store 0x200", "touch 0x201")
    + thread("vmm", "madvise pageout 0x201 1", "store 0x201")
    + thread("reclaimer", "repeat 2 reclaim some 1"),
    "a host that is full": '[host]\nmemory = "16KiB"\n\n[[region]]\ngfn = 0x200\nsize = "32KiB"\n'
    + vps("write 0x200", "read 0x207")
    + thread("host", "store 0x200", "madvise dontneed 0x200 8"),
    "what the region does not permit": READ_ONLY_REGION
    + vps("read 0x200", "write 0x200", "read 0x201", "exec 0x200")
    + thread("host", "store 0x200", "madvise dontneed 0x200 1"),
    "no region there": REGION + vps("read 0x300", "write 0x1ff", "exec 0x202"),
    "many processors": REGION
    + vps("write 0x200", "read 0x201", count=8)
    + thread("host", "repeat 3 madvise dontneed 0x200 2"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_correct_driver_is_clean(name):
    silent(WORLDS[name], Sound, 40)


class AsksForWhatIsPermitted(Sound):
    """No write access for pages that the guest may only read, so some are the zero page."""

    async def region_fault_alloc(self, region, page_offset, page_count):
        hmm_range = await super().region_fault_alloc(region, page_offset, page_count)
        if not region.hv_map_flags & HV_MAP_GPA_WRITABLE:
            hmm_range.default_flags = HMM_PFN_REQ_FAULT
        return hmm_range


def test_each_page_of_a_run_of_the_zero_page_is_that_page():
    world = READ_ONLY_REGION.replace("8KiB", "64KiB") + vps("read 0x200", "read 0x20f")
    host = thread("host", "touch 0x201", "store 0x20f", "mprotect 0x200 16 r")
    silent(world + host, AsksForWhatIsPermitted, 40)


PART = (
    REGION
    + vps("read 0x200", "read 0x201", "write 0x200", count=2)
    + thread("host", "munmap 0x201 1", "touch 0x200", "touch 0x201")
)


@pytest.mark.parametrize("driver", ["v6", "v7", "v9", "fix1", Sound])
def test_of_a_region_without_a_part_of_its_memory_only_what_is_left_is_legal(driver):
    """No version serves a window with a hole: the page that is left is owed to the guest."""
    result = search(PART, driver, 100, strategy="random", keep_going=True)
    assert {f.finding.verdict for f in result.findings} == {"guest-killed"}
    assert all("gfn 0x200" in " ".join(f.finding.story) for f in result.findings)


@pytest.mark.parametrize("driver", ["v6", "fix1"])
@pytest.mark.parametrize("name", WORLDS)
def test_no_version_confuses_the_oracle(name, driver):
    """Whatever a faulty version does to the world, the oracle can still look at it."""
    search("[bounds]\nprogress_steps = 500\n" + WORLDS[name], driver, 10, keep_going=True)
