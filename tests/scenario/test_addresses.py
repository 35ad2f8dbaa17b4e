"""Where guest pages lie in the VMM's process: the same on every machine, as the file says."""

import pytest

from mshv_async.scenario import UADDR_BASE, Scenario, named_gfns, named_vpns
from mshv_async.scenario.errors import Misfit


def scenario(*regions, programs=(), vp=()):
    text = 'summary = "s"\n'
    for region in regions:
        text += f"[[region]]\n{region}\n"
    for kind, lines in programs:
        text += f'[[thread]]\nkind = "{kind}"\nprogram = {list(lines)!r}\n'
    for lines in vp:
        text += f"[[vp]]\nprogram = {list(lines)!r}\n"
    return Scenario.parse(text)


VMM = "vmm"
MIB2 = 2 << 20


def test_default_addresses_are_aligned_like_the_gfn():
    s = scenario(
        "gfn = 0x201\nsize = '8KiB'", "gfn = 0x400\nsize = '2MiB'", programs=[(VMM, ["kill"])]
    )
    assert s.addresses.address(0x201) == UADDR_BASE + 4096
    assert s.addresses.address(0x400) == UADDR_BASE + MIB2
    assert s.addresses.address(0x5FF) == UADDR_BASE + 2 * MIB2 - 4096


def test_default_addresses_keep_out_of_chosen_ones():
    s = scenario(
        "gfn = 0x200\nsize = '8KiB'",
        f"gfn = 0x400\nsize = '8KiB'\nuaddr = {UADDR_BASE + 4096}",
        programs=[(VMM, ["map 0x800 4KiB", f"map 0xa00 4KiB uaddr={UADDR_BASE + MIB2:#x}"])],
    )
    assert s.addresses.address(0x400) == UADDR_BASE + 4096
    assert s.addresses.address(0xA00) == UADDR_BASE + MIB2
    assert s.addresses.address(0x200) == UADDR_BASE + 2 * MIB2
    assert s.addresses.address(0x800) == UADDR_BASE + 3 * MIB2


def test_the_largest_guest_fits():
    s = scenario("gfn = 0\nsize = '64TiB'", programs=[(VMM, ["kill"])])
    assert s.addresses.address((1 << 34) - 1) < 1 << 47


def test_one_gib_pages_lie_on_their_own_boundary():
    s = scenario(
        "gfn = 0\nsize = '4KiB'",
        "gfn = 0x40000\nsize = '1GiB'\nbacking = 'hugetlb-1g'",
        programs=[(VMM, ["kill"])],
    )
    assert s.addresses.address(0x40000) % (1 << 30) == 0


def test_mapping_again_keeps_the_address_and_mapping_around_gets_a_new_one():
    s = scenario(
        "gfn = 0x200\nsize = '8KiB'",
        programs=[(VMM, ["unmap 0x200", "map 0x201 4KiB", "map 0x200 8KiB", "map 0x1ff 16KiB"])],
    )
    assert [(p.gfn, p.pages, p.origin) for p in s.addresses.placed] == [
        (0x200, 2, "region[0]"),
        (0x1FF, 4, "thread[0].program[3]"),
    ]
    assert len(s.addresses.candidates(0x200)) == 2
    with pytest.raises(Misfit, match="several addresses"):
        s.addresses.address(0x1FF, 2)


def test_a_range_may_cross_regions_whose_addresses_join():
    regions = (
        "gfn = 0x200\nsize = '2MiB'",
        "gfn = 0x400\nsize = '2MiB'",
        "gfn = 0x800\nsize = '2MiB'\nuaddr = 0x7f0000000000",
    )
    s = scenario(*regions, programs=[("host", ["munmap 0x3ff 2"])])
    assert s.addresses.address(0x3FF, 2) == UADDR_BASE + MIB2 - 4096
    with pytest.raises(Misfit, match="to which no region"):
        s.addresses.address(0x5FF, 2)


def test_two_regions_may_show_the_same_memory():
    same = "uaddr = 0x7f0000000000"
    s = scenario(
        f"gfn = 1\nsize = '4KiB'\n{same}",
        f"gfn = 5\nsize = '4KiB'\n{same}",
        programs=[("host", ["touch @0x7f0000000000"])],
    )
    assert s.addresses.address(1) == s.addresses.address(5)
    assert named_gfns(s) == (1, 5)
    assert named_vpns(s) == (0x7F0000000,)


def test_operations_know_the_address_that_they_mean():
    s = scenario(
        "gfn = 0x200\nsize = '8KiB'",
        programs=[
            ("vmm", ["unmap 0x200", "map 0x200 8KiB", "map 0x400 4KiB", "map 0x1ff 16KiB"]),
            ("host", ["repeat 2 touch 0x400; yield", "madvise free @0x7f0000000000 2"]),
            ("reclaimer", ["reclaim 0x400 1", "reclaim some 1"]),
        ],
    )
    vmm, host, reclaimer = (thread.program.operations for thread in s.threads)
    assert [op.uaddr for op in vmm] == [
        None,
        UADDR_BASE,
        UADDR_BASE + MIB2,
        UADDR_BASE + 3 * MIB2 - 4096,
    ]
    assert [op.address for op in host] == [UADDR_BASE + MIB2, None, 0x7F0000000000]
    assert [op.address for op in reclaimer] == [UADDR_BASE + MIB2, None]
    assert s.addresses.of("region[0]").uaddr == UADDR_BASE
    assert str(host[0]) == "touch 0x400"


def test_named_pages_are_the_ends_of_ranges():
    s = scenario(
        "gfn = 0x200\nsize = '2MiB'",
        programs=[("host", ["madvise dontneed 0x210 8"]), ("reclaimer", ["reclaim some 5"])],
        vp=[["write 0x220"]],
    )
    assert named_gfns(s) == (0x210, 0x217, 0x220)
    assert named_vpns(s) == tuple((UADDR_BASE >> 12) + gfn - 0x200 for gfn in named_gfns(s))


def test_workloads_name_nothing():
    text = (
        'summary = "s"\n[[region]]\ngfn = 1\nsize = 4096\n[[vp]]\nworkload = { kind = "uniform" }'
    )
    assert named_gfns(Scenario.parse(text)) == named_vpns(Scenario.parse(text)) == ()
