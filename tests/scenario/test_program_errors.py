"""What is wrong with a program or a workload is told in one line."""

import pytest
from bad_scenarios import thread, told, vp, workload

CASES = {
    # text: (key, found, allowed); found and allowed are fragments of the message
    "empty program": (vp("").replace("['']", "[]"), "vp[0].program", "empty program", "at least"),
    "empty operation": (vp("read 1;"), "vp[0].program[0]", "an empty operation", "`read G`"),
    "operation": (vp("red 1"), "vp[0].program[0]", '"red 1"', "`write G [TAG]`"),
    "operation of others": (
        vp("madvise dontneed 1 1"),
        "vp[0].program[0]",
        '"madvise", an operation of host, vmm threads',
        "`read G`",
    ),
    "arguments": (vp("read 1 2"), "vp[0].program[0]", "2 arguments", "1, as in: read G"),
    "too few": (vp("write"), "vp[0].program[0]", "0 arguments", "1 to 2, as in: write G [TAG]"),
    "gfn word": (vp("read x"), "vp[0].program[0]", '"x"', "a guest page number"),
    "gfn sign": (vp("read -1"), "vp[0].program[0]", '"-1"', "a guest page number"),
    "gfn high": (vp("read 0x400000000"), "vp[0].program[0]", '"0x400000000"', "46-bit"),
    "tag": (vp("write 1 a/b"), "vp[0].program[0]", '"a/b"', "a tag"),
    "repeat": (vp("repeat x read 1"), "vp[0].program[0]", '"x"', "repeat K OPERATION"),
    "repeat zero": (vp("repeat 0 read 1"), "vp[0].program[0]", '"0"', "K from 1"),
    "repeat alone": (vp("repeat 3"), "vp[0].program[0]", "an empty operation", "`read G`"),
    "two prefixes": (vp("repeat 2 forever read 1"), "vp[0].program[0]", '"forever"', "one prefix"),
    "after forever": (
        'summary = "s"\n[[vp]]\nprogram = ["forever read 1", "read 2"]',
        "vp[0].program[1]",
        '"read 2"',
        "nothing after a `forever` line",
    ),
    "thread kind": (
        thread("hots", "touch 0x200"),
        "thread[0].kind",
        'did you mean "host"',
        '"oom-reaper"',
    ),
    "thread name": (
        thread("host", "touch 0x200") + "name = 'Host 1'",
        "thread[0].name",
        '"Host 1"',
        "small letters",
    ),
    "reserved name": (
        thread("host", "touch 0x200") + "name = 'vp0'",
        "thread[0].name",
        '"vp0"',
        "not the name of a VP",
    ),
    "name twice": (
        thread("host", "touch 0x200") + "[[thread]]\nkind='vmm'\nname='host'\nprogram=['kill']",
        "thread[1].name",
        '"host"',
        "no other thread",
    ),
    "no program": (
        'summary = "s"\n[[thread]]\nkind = "host"',
        "thread[0].program",
        "nothing",
        "text",
    ),
    "advice": (
        thread("host", "madvise dontned 0x200 1"),
        "thread[0].program[0]",
        '"dontned"',
        "nohugepage, collapse, as in: madvise",
    ),
    "protection": (thread("host", "mprotect 0x200 1 w"), "thread[0].program[0]", '"w"', "none, r"),
    "no pages": (thread("host", "munmap 0x200 0"), "thread[0].program[0]", '"0"', "at least 1"),
    "no address": (
        thread("host", "touch 0x300"),
        "thread[0].program[0]",
        "0x300, to which no region or map gives an address",
        "0x200…0x201 (region[0])",
    ),
    "nowhere": (thread("host", "touch 1", region=False), "thread[0].program[0]", "0x1", "@ADDR"),
    "half an address": (
        thread("reclaimer", "reclaim 0x201 2"),
        "thread[0].program[0]",
        "0x201…0x202, to which",
        "0x200…0x201",
    ),
    "two addresses": (
        thread("vmm", "map 0x1ff 16KiB", "touch 0x200"),
        "thread[0].program[1]",
        "0x200, which has several addresses",
        "@ADDR here",
    ),
    "two to map again": (
        thread("vmm", "map 0x200 8KiB uaddr=0x7f0000000000", "map 0x200 8KiB"),
        "thread[0].program[1]",
        "several addresses",
        "uaddr=… here",
    ),
    "raw address": (thread("host", "touch @0x123"), "thread[0].program[0]", "0x123", "multiple"),
    "map size": (thread("vmm", "map 0x200 5KiB"), "thread[0].program[0]", '"5KiB"', "multiple of"),
    "map flag": (
        thread("vmm", "map 0x300 4KiB flags=rw"),
        "thread[0].program[0]",
        '"flags=rw"',
        "flags=none or, with commas, writable, executable",
    ),
    "map key": (
        thread("vmm", "map 0x300 4KiB flag=none"),
        "thread[0].program[0]",
        '"flag=none"',
        "backing=…, flags=…, uaddr=…",
    ),
    "map backing": (thread("vmm", "map 1 4KiB backing=x"), "thread[0].program[0]", '"x"', "anon,"),
    "map beyond": (
        thread("vmm", "map 0x3ffffffff 8KiB"),
        "thread[0].program[0]",
        "last page 0x400000000",
        "46-bit",
    ),
    "unmap": (thread("vmm", "unmap 0x201"), "thread[0].program[0]", "0x201", "first page of a"),
    "sleep": (thread("host", "sleep 1ms"), "thread[0].program[0]", '"1ms"', "nanoseconds"),
    "workload kind": (workload("kind = 'zip'"), "vp[0].workload.kind", 'mean "zipf"', '"trace"'),
    "workload key": (
        workload("kind = 'uniform', file = 'x'"),
        "vp[0].workload.file",
        "a key that uniform does not have",
        "base, pages, accesses",
    ),
    "workload share": (
        workload("kind = 'uniform', writes_percent = 101"),
        "vp[0].workload.writes_percent",
        "101",
        "from 0 to 100",
    ),
    "workload base": (
        'summary = "s"\n[[vp]]\nworkload = { kind = "uniform" }',
        "vp[0].workload.base",
        "nothing",
        "no region",
    ),
    "workload pages": (
        workload("kind = 'uniform', base = 1"),
        "vp[0].workload.pages",
        "nothing",
        "base is in no region",
    ),
    "workload skew": (
        workload("kind = 'zipf', skew = 5"),
        "vp[0].workload.skew",
        "5",
        "a number from 0 to 4",
    ),
    "workload end": (
        workload("kind = 'uniform', base = 0x200, pages = 0x400000000"),
        "vp[0].workload.pages",
        "last page 0x4000001ff",
        "46-bit",
    ),
    "trace": (workload("kind = 'trace'"), "vp[0].workload.file", "nothing", "path of a trace"),
    "trace missing": (
        workload("kind = 'trace', file = 'no.pages'"),
        "vp[0].workload.file",
        '"no.pages": No such file',
        "a file that can be read",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_program_is_told_in_one_line(case, tmp_path):
    told(*CASES[case], tmp_path)
