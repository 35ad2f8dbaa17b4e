"""What a scenario file says is what the rest of the program gets."""

import pickle

import pytest

from mshv_async.guest import GuestAccess, Replay, Sleep, Uniform, Yield, Zipf, read, write
from mshv_async.scenario import BackingRun, Scenario

EVERYTHING = """
summary = "Everything at once"
bugs = ["A01", "E05"]
panic_on_warn = true

[host]
memory = "1GiB"
thp = "always"
swap = 8192
hugetlb_2m = 3

[hypervisor]
scheduler = "hypervisor"
pool = 7
reps = "exact"

[partition]
encrypted = true
mmu_notifier = false
arch = "arm64"

[[region]]
gfn = 0x200
size = "4TiB"
backing = [{ backing = "anon", pages = 512 }, { backing = "thp", pages = 1073741312 }]
flags = ["writable"]
uaddr = 0x200000000000

[[vp]]
count = 2
program = ["write 0x200 a", "repeat 3 read 0x201; sleep 5", "forever exec 0x202; yield"]

[[thread]]
kind = "host"
program = ["touch @0x200000000000"]

[[thread]]
kind = "host"
program = ["store 0x200"]

[[inject]]
at = "alloc.region"

[bounds]
progress_steps = 5000

[time]
hypercall.map_gpa.rep = 60
"guest" = 10

[expect]
v6 = ["oops", "invariant:kick"]
v7 = []
"""


def test_every_key_arrives():
    s = Scenario.parse(EVERYTHING, "everything")
    assert (s.name, s.summary, s.bugs, s.panic_on_warn) == (
        "everything",
        "Everything at once",
        ("A01", "E05"),
        True,
    )
    assert (s.host.memory, s.host.thp, s.host.swap, s.host.hugetlb_2m) == (
        1 << 30,
        "always",
        8192,
        3,
    )
    assert (s.hypervisor.scheduler, s.hypervisor.pool, s.hypervisor.reps) == (
        "hypervisor",
        7,
        "exact",
    )
    assert (s.partition.encrypted, s.partition.mmu_notifier, s.partition.arch) == (
        True,
        False,
        "arm64",
    )
    assert s.region[0].pages == 1 << 30
    assert s.region[0].backing_runs[1] == BackingRun(backing="thp", pages=1073741312)
    assert s.bounds.progress_steps == 5000
    assert s.time == {"hypercall.map_gpa.rep": 60, "guest": 10}
    assert s.inject[0].errno == "ENOMEM"
    assert s.expected("v6") == ("oops", "invariant:kick")
    assert s.expected("v7") == s.expected("v9") == ("clean",)


def test_what_is_left_out_has_the_documented_default():
    s = Scenario.parse(
        'summary = "s"\n[[region]]\ngfn = 0\nsize = 4096\n[[vp]]\nprogram = ["read 0"]'
    )
    assert (s.host.memory, s.host.thp, s.host.swap, s.host.hugetlb_2m) == (64 << 20, "never", 0, 0)
    assert (s.hypervisor.scheduler, s.hypervisor.pool, s.hypervisor.reps) == ("root", 0, "grouped")
    assert (s.partition.encrypted, s.partition.mmu_notifier, s.partition.arch) == (
        False,
        True,
        "x86_64",
    )
    assert s.region[0].flags == ("writable", "executable")
    assert s.region[0].backing == "anon"
    assert (s.bugs, s.panic_on_warn, s.inject, s.expect) == ((), False, (), {})


def test_threads_have_names_and_programs():
    s = Scenario.parse(EVERYTHING)
    assert [(t.name, t.kind, t.forever) for t in s.threads] == [
        ("vp0", "vp", True),
        ("vp1", "vp", True),
        ("host", "host", False),
        ("host1", "host", False),
    ]
    source = s.threads[0].source
    position, seen = 0, []
    for _ in range(11):
        seen.append(source.at(position))
        position = source.after(position)
    loop = [GuestAccess(2, 0x202), Yield()]
    assert seen == [write(0x200, "a"), *[read(0x201), Sleep(5)] * 3, *loop, *loop]


def test_workloads_take_their_pages_from_the_region_and_differ_between_vps():
    s = Scenario.parse(
        'summary = "s"\n[[region]]\ngfn = 0x200\nsize = "1MiB"\n'
        '[[vp]]\ncount = 2\nworkload = { kind = "uniform" }\n'
        '[[vp]]\ncount = 2\nworkload = { kind = "zipf", base = 0x210, '
        "accesses = 9, seed = 7, skew = 2 }\n"
    )
    first, second, third, fourth = (t.source for t in s.threads)
    assert isinstance(first, Uniform)
    assert isinstance(third, Zipf)
    assert (first.base, first.pages, third.base, third.pages) == (0x200, 256, 0x210, 240)
    assert (first.seed, second.seed, third.seed, fourth.seed) == (1, 2, 7, 8)
    assert (third.accesses, third.skew, third.writes_percent) == (9, 2.0, 50)


def test_traces_travel_with_the_scenario(tmp_path):
    (tmp_path / "t.pages").write_text("w 3\n")
    text = (
        'summary = "s"\n[[region]]\ngfn = 0x200\nsize = "1MiB"\n'
        '[[vp]]\nworkload = { kind = "trace", file = "t.pages" }\n'
    )
    here = Scenario.parse(text, "t", tmp_path)
    assert here.files() == {"t.pages": "w 3\n"}
    elsewhere = Scenario.parse(here.text, here.name, tmp_path / "gone", here.files())
    assert isinstance(elsewhere.threads[0].source, Replay)
    assert elsewhere.threads[0].source.at(0) == write(0x203)


def test_a_scenario_cannot_be_changed_and_can_be_sent_to_a_worker():
    s = Scenario.parse(EVERYTHING)
    with pytest.raises(AttributeError):
        s.summary = "another"
    assert pickle.loads(pickle.dumps(s)).addresses == s.addresses
