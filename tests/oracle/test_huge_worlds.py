"""Worlds with huge pages, memory pressure and devices, in which a correct driver is clean."""

from __future__ import annotations

import pytest
from oracle_playing import SWAP, search, silent, thread, vps
from sound_drivers import Sound

POOL = "[hypervisor]\npool = 8\n"
THP = '[host]\nthp = "madvise"\n'
THP_SWAP = '[host]\nthp = "madvise"\nswap = "4MiB"\n'
HUGE = '\n[[region]]\ngfn = 0x200\nsize = "2MiB"\nbacking = "thp"\n'
HUGE_AND_SOME = '\n[[region]]\ngfn = 0x200\nsize = "2056KiB"\nbacking = "thp"\n'
ODD_UADDR = '\n[[region]]\ngfn = 0x200\nsize = "2MiB"\nbacking = "thp"\nuaddr = 0x100000201000\n'
ODD_GFN = '\n[[region]]\ngfn = 0x201\nsize = "2MiB"\nbacking = "thp"\nuaddr = 0x100000200000\n'
HUGETLB = (
    '[host]\nhugetlb_2m = 1\n\n[[region]]\ngfn = 0x200\nsize = "2MiB"\nbacking = "hugetlb-2m"\n'
)
HUGETLB_1G = (
    '[host]\nmemory = "2GiB"\nhugetlb_1g = 1\n'
    '\n[[region]]\ngfn = 0x40000\nsize = "1GiB"\nbacking = "hugetlb-1g"\nuaddr = 0x100040000000\n'
)
MIXED = """
[host]
thp = "madvise"
hugetlb_2m = 1

[[region]]
gfn = 0x200
size = "6MiB"

[[region.backing]]
backing = "hugetlb-2m"
pages = 512

[[region.backing]]
backing = "anon"
pages = 512

[[region.backing]]
backing = "thp"
pages = 512
"""
PINNED = "[partition]\nmmu_notifier = false\n"
DEVICE = '\n[[region]]\ngfn = 0x400\nsize = "2MiB"\nbacking = "device"\n'
VICTIM = '\n[[process]]\nname = "victim"\nmemory = "16KiB"\n'

WORLDS = {
    "a part discarded": POOL
    + THP
    + HUGE
    + vps("write 0x200", "read 0x210", "write 0x210")
    + thread("host", "madvise dontneed 0x210 8", "store 0x210"),
    "a part unmapped": POOL
    + THP
    + HUGE_AND_SOME
    + vps("write 0x400", "read 0x200")
    + thread("host", "store 0x200", "madvise dontneed 0x200 8", "touch 0x200"),
    "all discarded": POOL
    + THP
    + HUGE
    + vps("write 0x200", "read 0x3ff", count=2)
    + thread("host", "madvise dontneed 0x200 512"),
    "rights of a part": POOL
    + THP
    + HUGE
    + thread("host", "store 0x200", "mprotect 0x210 8 r", "mprotect 0x210 8 rw", "store 0x211")
    + thread("vmm", "unmap 0x200", "map 0x200 2MiB backing=thp"),
    "collapsed and split": POOL
    + THP
    + HUGE
    + vps("write 0x200", "read 0x210", "read 0x200")
    + thread("host", "madvise dontneed 0x210 8", "store 0x210")
    + thread("khugepaged", "collapse 0x200", "collapse 0x200"),
    "odd address": POOL
    + THP
    + ODD_UADDR
    + vps("write 0x200", "read 0x210")
    + thread("host", "madvise dontneed 0x210 8")
    + thread("khugepaged", "collapse 0x210"),
    "odd gfn": POOL
    + THP
    + ODD_GFN
    + vps("write 0x201", "read 0x210")
    + thread("host", "madvise dontneed 0x210 8"),
    "reclaimed": POOL
    + THP_SWAP
    + HUGE
    + vps("write 0x200", "read 0x210", "read 0x200")
    + thread("reclaimer", "reclaim 0x200 512", "reclaim some 4"),
    "reaped": POOL
    + THP
    + HUGE
    + vps("write 0x200", "read 0x210", count=2)
    + thread("oom-reaper", "reap"),
    "exit": POOL
    + THP
    + HUGE
    + vps("write 0x200", "read 0x210")
    + thread("host", "madvise dontneed 0x210 8")
    + thread("vmm", "exit"),
    "hugetlb": POOL
    + HUGETLB
    + vps("write 0x200", "read 0x210")
    + thread("host", "madvise dontneed 0x200 512", "store 0x200")
    + thread("vmm", "unmap 0x200", "map 0x200 2MiB backing=hugetlb-2m"),
    "hugetlb and exit": POOL + HUGETLB + vps("write 0x200", "read 0x210") + thread("vmm", "exit"),
    "hugetlb, too few": POOL
    + HUGETLB
    + '\n[[region]]\ngfn = 0x400\nsize = "2MiB"\nbacking = "hugetlb-2m"\n'
    + vps("write 0x200", "read 0x210")
    + vps("write 0x400", "read 0x410"),
    "one gigabyte": POOL + HUGETLB_1G + vps("write 0x40000", "read 0x50000"),
    "of several kinds": POOL
    + MIXED
    + vps("write 0x200", "write 0x400", "write 0x600")
    + thread("host", "madvise dontneed 0x410 8", "madvise dontneed 0x610 8"),
    "pinned": PINNED
    + POOL
    + THP_SWAP
    + HUGE
    + vps("write 0x200", "read 0x210")
    + thread("vmm", "unmap 0x200", "map 0x200 2MiB backing=thp", "unmap 0x200")
    + thread("khugepaged", "collapse 0x200")
    + thread("reclaimer", "reclaim 0x200 512")
    + thread("host", "madvise dontneed 0x210 8"),
    "pinned hugetlb": PINNED
    + POOL
    + HUGETLB
    + vps("write 0x200")
    + thread("vmm", "unmap 0x200", "map 0x200 2MiB backing=hugetlb-2m", "exit"),
    "device beside memory": POOL
    + THP
    + HUGE
    + DEVICE
    + vps("write 0x200", "write 0x400", "read 0x5ff")
    + thread("host", "madvise dontneed 0x210 8")
    + thread("vmm", "unmap 0x400", "map 0x400 2MiB backing=device"),
    "memory in a device's place": POOL
    + DEVICE
    + vps("write 0x400", "read 0x401")
    + thread("vmm", "unmap 0x400", "map 0x400 8KiB uaddr=0x300000000000", "unmap 0x400"),
    "little memory": '[host]\nmemory = "64KiB"\nswap = "64KiB"\nwatermark = 4\nkswapd = true\n'
    '\n[[region]]\ngfn = 0x200\nsize = "32KiB"\n'
    + vps("write 0x200", "read 0x204")
    + thread("host", "store @0x500000000000"),
    "the killer takes another": '[host]\nmemory = "64KiB"\nwatermark = 2\noom_killer = true\n'
    + VICTIM
    + '\n[[region]]\ngfn = 0x200\nsize = "40KiB"\n'
    + vps("write 0x200", "read 0x204"),
    "the killer takes the monitor": '[host]\nmemory = "32KiB"\nwatermark = 2\noom_killer = true\n'
    '\n[[region]]\ngfn = 0x200\nsize = "32KiB"\n' + vps("write 0x200", "read 0x204"),
    "swap beside": SWAP
    + '\n[[region]]\ngfn = 0x200\nsize = "8KiB"\n'
    + DEVICE
    + vps("write 0x200", "write 0x400", "read 0x200")
    + thread("reclaimer", "reclaim some 2"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_correct_driver_is_clean(name):
    silent(WORLDS[name], Sound, 20)


@pytest.mark.parametrize("driver", ["v6", "v9"])
@pytest.mark.parametrize("name", WORLDS)
def test_no_version_confuses_the_oracle(name, driver):
    search("[bounds]\nprogress_steps = 500\n" + WORLDS[name], driver, 3, keep_going=True)
