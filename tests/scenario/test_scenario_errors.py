"""Whatever is wrong with a scenario, the user gets one line: file, key, found, allowed."""

import pytest

from mshv_async.scenario import Scenario, ScenarioError

GOOD = """
summary = "A scenario to break"
[[region]]
gfn = 0x200
size = "8KiB"
[[vp]]
program = ["read 0x200"]
"""


def vp(program):
    return f'summary = "s"\n[[vp]]\nprogram = [{program!r}]\n'


def thread(kind, *lines, region=True):
    mapped = '[[region]]\ngfn = 0x200\nsize = "8KiB"\n' if region else ""
    return f'summary = "s"\n{mapped}[[thread]]\nkind = "{kind}"\nprogram = {list(lines)!r}\n'


def workload(text):
    return (
        f'summary = "s"\n[[region]]\ngfn = 0x200\nsize = "8KiB"\n[[vp]]\nworkload = {{ {text} }}\n'
    )


def inject(text):
    return f"{GOOD}[[inject]]\n{text}\n"


def expect(text):
    return f"{GOOD}[expect]\n{text}\n"


CASES = {
    # text: (key, found, allowed); found and allowed are fragments of the message
    "not TOML": ("summary = = 1", "line 1, column 11", "broken TOML", "a TOML file"),
    "cut short": ('summary = "s', "", "broken TOML", "a TOML file"),
    "deep": (f"summary = {'[' * 5000}", "", "broken TOML", "a TOML file"),
    "empty": ("", "summary", "nothing", "required"),
    "no summary": ("[[vp]]\nprogram = ['read 1']", "summary", "nothing", "text (required)"),
    "blank summary": ("summary = ' '\n[[vp]]\nprogram = ['read 1']", "summary", '" "', "one line"),
    "long summary": ('summary = "a\\nb"\n[[vp]]\nprogram = ["read 1"]', "summary", "a b", "one"),
    "nobody": ('summary = "s"', "vp", "nothing", "at least one [[vp]] or [[thread]]"),
    "unknown table": (GOOD + "[hots]\nmemory = 1", "hots", 'did you mean "host"', "hypervisor"),
    "unknown key": (GOOD + "[host]\nmemroy = 1", "host.memroy", 'mean "memory"', "thp, swap"),
    "odd key": (GOOD + '[host]\n"a b\\n" = 1', 'host."a b "', "an unknown key", "memory"),
    "wrong type": (GOOD + "[partition]\nencrypted = 1", "partition.encrypted", "1", "true or"),
    "table, not array": ('summary = "s"\n[vp]\ncount = 1', "vp", "a table", "an array of tables"),
    "text, not array": (vp("x").replace("['x']", "'x'"), "vp[0].program", '"x"', "array of: text"),
    "number in array": (
        'summary = "s"\n[[vp]]\nprogram = ["read 1", 2]',
        "vp[0].program[1]",
        "2",
        "text",
    ),
    "truth for a number": (
        GOOD.replace("gfn = 0x200", "gfn = true"),
        "region[0].gfn",
        "true",
        "a guest page number from 0 to 0x3ffffffff",
    ),
    "gfn beyond": (
        GOOD.replace("gfn = 0x200", "gfn = 0x400000000"),
        "region[0].gfn",
        str(0x400000000),
        "46-bit guest addresses",
    ),
    "region ends beyond": (
        GOOD.replace("gfn = 0x200", "gfn = 0x3ffffffff"),
        "region[0].size",
        "last page 0x400000000",
        "0x3ffffffff",
    ),
    "size word": (GOOD.replace("8KiB", "8 KB"), "region[0].size", '"8 KB"', "KiB, MiB"),
    "size sign": (GOOD.replace('"8KiB"', "-4096"), "region[0].size", "-4096", "KiB, MiB"),
    "size fraction": (GOOD.replace('"8KiB"', "4096.0"), "region[0].size", "4096.0", "bytes, or"),
    "half page": (GOOD.replace("8KiB", "6KiB"), "region[0].size", "6144 bytes", "multiple of 4096"),
    "no size": (GOOD.replace('size = "8KiB"', ""), "region[0].size", "nothing", "required"),
    "size zero": (GOOD.replace("8KiB", "0"), "region[0].size", "0 bytes", "at least 4096"),
    "memory": (GOOD + "[host]\nmemory = 5000", "host.memory", "5000 bytes", "multiple of 4096"),
    "swap": (GOOD + "[host]\nswap = '1TB'", "host.swap", '"1TB"', "TiB"),
    "overlap": (
        GOOD + "[[region]]\ngfn = 0x201\nsize = '4KiB'",
        "region[1].gfn",
        "0x201, inside region[0] (0x200…0x201)",
        "no other set-up region",
    ),
    "overlap before": (
        GOOD + "[[region]]\ngfn = 0x1ff\nsize = '8KiB'",
        "region[0].gfn",
        "inside region[1] (0x1ff…0x200)",
        "no other set-up region",
    ),
    "backing": (
        GOOD + "[[region]]\ngfn = 0\nsize = 4096\nbacking = 'anonym'",
        "region[1].backing",
        'did you mean "anon"',
        '"hugetlb-1g"',
    ),
    "backing list": (
        GOOD + "[[region]]\ngfn = 0\nsize = 4096\nbacking = [{ backing = 'anon', pages = 2 }]",
        "region[1].backing",
        "2 pages",
        "add up to the region's 1 pages",
    ),
    "backing run": (
        GOOD + "[[region]]\ngfn = 0\nsize = 4096\nbacking = [{ backing = 'anon', pages = 0 }]",
        "region[1].backing[0].pages",
        "0",
        "a whole number from 1",
    ),
    "hugetlb size": (
        GOOD + "[[region]]\ngfn = 0\nsize = '1MiB'\nbacking = 'hugetlb-2m'",
        "region[1]",
        "hugetlb-2m memory of 0x100000 bytes",
        "multiples of 0x200000",
    ),
    "region flag": (
        GOOD + "[[region]]\ngfn = 0\nsize = 4096\nflags = ['writeable']",
        "region[1].flags[0]",
        'did you mean "writable"',
        '"executable"',
    ),
    "flag twice": (
        GOOD + "[[region]]\ngfn = 0\nsize = 4096\nflags = ['writable', 'writable']",
        "region[1].flags",
        "a flag twice",
        "once",
    ),
    "uaddr": (
        GOOD + "[[region]]\ngfn = 0\nsize = 4096\nuaddr = 0x7f0000000001",
        "region[1].uaddr",
        "0x7f0000000001",
        "a multiple of 4096",
    ),
    "uaddr kernel": (
        GOOD + "[[region]]\ngfn = 0\nsize = 4096\nuaddr = 0x800000000000",
        "region[1].uaddr",
        str(0x800000000000),
        "a user address",
    ),
    "uaddr end": (
        GOOD + "[[region]]\ngfn = 0\nsize = '8KiB'\nuaddr = 0x7ffffffff000",
        "region[1]",
        "0x7ffffffff000 to 0x800000001000",
        "addresses below 0x800000000000",
    ),
    "scheduler": (
        GOOD + "[hypervisor]\nscheduler = 'core'",
        "hypervisor.scheduler",
        '"core"',
        '"hypervisor", "root"',
    ),
    "vp count": (GOOD + "[[vp]]\ncount = 0\nprogram = []", "vp[1].count", "0", "from 1 to 256"),
    "vps in all": (GOOD + "[[vp]]\ncount = 256\nprogram = ['read 1']", "vp[1].count", "VPs", "256"),
    "vp idle": ('summary = "s"\n[[vp]]', "vp[0]", "nothing to run", "a program or a workload"),
    "vp both": (
        'summary = "s"\n[[vp]]\nprogram = []\nworkload = { kind = "uniform" }',
        "vp[0]",
        "a program and a workload",
        "one of them",
    ),
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
    "site": (
        inject("at = 'notifier.inser'\nerrno = 'ENOMEM'"),
        "inject[0].at",
        'did you mean "notifier.insert"',
        "hypercall.<name>, alloc.<site>",
    ),
    "hypercall": (
        inject("at = 'hypercall.map_gap'\nstatus = 'TIMEOUT'"),
        "inject[0].at",
        'did you mean "map_gpa"',
        "unmap_gpa",
    ),
    "allocation": (inject("at = 'alloc.'"), "inject[0].at", '"alloc."', "alloc.<site>, "),
    "no status": (inject("at = 'hypercall.map_gpa'"), "inject[0].status", "nothing", "TIMEOUT"),
    "status": (
        inject("at = 'hypercall.map_gpa'\nstatus = 'TIMOUT'"),
        "inject[0].status",
        'did you mean "TIMEOUT"',
        "OPERATION_FAILED",
    ),
    "status or errno": (
        inject("at = 'hypercall.map_gpa'\nstatus = 'TIMEOUT'\nerrno = 'EIO'"),
        "inject[0].errno",
        '"EIO"',
        "status = … at a hypercall",
    ),
    "errno or status": (
        inject("at = 'alloc.region'\nstatus = 'TIMEOUT'"),
        "inject[0].status",
        '"TIMEOUT"',
        "errno (ENOMEM)",
    ),
    "errno": (
        inject("at = 'fault'\nerrno = 'EFALT'"),
        "inject[0].errno",
        '"EFALT"',
        "EFAULT, ENOMEM",
    ),
    "signal": (inject("at = 'signal'\nerrno = 'EIO'"), "inject[0].errno", '"EIO"', "EINTR"),
    "rep": (
        inject("at = 'hypercall.create_vp'\nstatus = 'TIMEOUT'\nrep = 1"),
        "inject[0].rep",
        "1, but create_vp has no list",
        "map_gpa",
    ),
    "rep sign": (
        inject("at = 'hypercall.map_gpa'\nstatus = 'TIMEOUT'\nrep = -1"),
        "inject[0].rep",
        "-1",
        "at least 0",
    ),
    "rep elsewhere": (inject("at = 'pin'\nrep = 1"), "inject[0].rep", "1", "no rep"),
    "times": (inject("at = 'pin'\ntimes = 0"), "inject[0].times", "0", "at least 1"),
    "within": (
        inject("at = 'pin'\nwithin = 'mshv_map_user_memory'"),
        "inject[0].within",
        '"mshv_map_user_memory"',
        "without its mshv_ prefix",
    ),
    "within misspelt": (
        inject("at = 'pin'\nwithin = 'region_interval_invalidte'"),
        "inject[0].within",
        'did you mean "region_interval_invalidate"',
        "a driver function",
    ),
    "within nothing": (inject("at = 'pin'\nwithin = 'a b'"), "inject[0].within", '"a b"', "driver"),
    "pin status": (
        inject("at = 'pin'\nstatus = 'LONG'"),
        "inject[0].status",
        '"LONG"',
        "status (SHORT) or errno (any",
    ),
    "bounds": (GOOD + "[bounds]\nprogress_steps = 0", "bounds.progress_steps", "0", "at least 1"),
    "bound": (GOOD + "[bounds]\nsteps = 1", "bounds.steps", "an unknown key", "progress_steps"),
    "time": (GOOD + "[time]\nhypercall.map = -1", 'time."hypercall.map"', "-1", "a whole number"),
    "time label": (GOOD + "[time]\n'A b' = 1", "time", '"A b"', "such as hypercall.map_gpa"),
    "bug": (f"bugs = ['a1']\n{GOOD}", "bugs[0]", '"a1"', '"A01"'),
    "driver": (expect('"v6+" = []'), 'expect."v6+"', '"v6+"', "a profile with patches"),
    "driver that is none": (
        expect("v1 = []"),
        'expect."v1"',
        '"v1" (unknown driver',
        "list drivers",
    ),
    "patch that is none": (
        expect('"v6+unlok-on-failure" = []'),
        'expect."',
        "unlok-on-failure",
        "list patches",
    ),
    "patch of another": (
        expect('"fix1+unlock-on-failure" = []'),
        'expect."',
        "is not for fix1",
        "list patches",
    ),
    "misspelt label": (
        GOOD + "[time]\nhypercal.map_gpa = 1",
        "time",
        'mean "hypercall"',
        "hypercall,",
    ),
    "misspelt call": (
        GOOD + "[time]\nhypercall.map_gpaa.rep = 1",
        "time",
        "hypercall.map_gpa",
        "unmap_gpa",
    ),
    "misspelt part": (
        GOOD + "[time]\nhypercall.map_gpa.rap = 1",
        "time",
        'map_gpa.rep"',
        "hypercall.map_gpa.rep",
    ),
    "driver patch": (expect('"v6+a+a" = []'), 'expect."v6+a+a"', '"v6+a+a"', "a profile"),
    "driver again": (
        expect(
            '"v6+check-access+unlock-on-failure" = []\n"v6+unlock-on-failure+check-access" = []'
        ),
        'expect."v6+unlock-on-failure+check-access"',
        'the driver of "v6+check-access+unlock-on-failure" again',
        "once",
    ),
    "verdict": (expect("v6 = ['opps']"), 'expect."v6"', 'did you mean "oops"', "livelock"),
    "invariant": (
        expect("v6 = ['stale-mapping']"),
        'expect."v6"',
        'did you mean "invariant:stale-mapping"',
        "invariant:coherence",
    ),
    "clean and not": (expect("v6 = ['clean', 'oops']"), 'expect."v6"', '"clean" beside', "alone"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_told_in_one_line(case, tmp_path):
    text, key, found, allowed = CASES[case]
    file = tmp_path / "bad.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        Scenario.load(file)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{file}: {key}")
    assert found in caught.value.found
    assert allowed in caught.value.allowed
    assert caught.value.found in message
    assert caught.value.allowed in message
    assert not key or key.endswith('."') or caught.value.key == key


def test_the_scenario_that_the_cases_break_is_a_good_one():
    assert Scenario.parse(GOOD).region[0].pages == 2


def test_a_missing_file_names_the_shipped_scenario_that_was_meant():
    with pytest.raises(ScenarioError, match=r'did you mean "litmus/one-page"'):
        Scenario.load("litmus/onepage")


def test_a_folder_and_a_binary_file_are_no_scenarios(tmp_path):
    with pytest.raises(ScenarioError, match="found a folder"):
        Scenario.load(tmp_path)
    file = tmp_path / "x.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match="which is not UTF-8"):
        Scenario.load(file)


def test_a_broken_trace_names_its_line(tmp_path):
    (tmp_path / "x.pages").write_text("# fine\nr 1\nq 2\n")
    text = workload("kind = 'trace', file = 'x.pages'")
    with pytest.raises(ScenarioError) as caught:
        Scenario.parse(text, "broken", tmp_path)
    assert str(caught.value).startswith("broken: vp[0].workload.file: found x.pages:3: ")


def test_a_scenario_from_a_repro_file_reads_no_other_file(tmp_path):
    (tmp_path / "x.pages").write_text("r 1\n")
    text = workload("kind = 'trace', file = 'x.pages'")
    with pytest.raises(ScenarioError, match="one of the given files"):
        Scenario.parse(text, "repro", tmp_path, {"y.pages": "r 1\n"})


def test_a_function_of_a_users_own_driver_may_be_named():
    scenario = Scenario.parse(inject("at = 'pin'\nwithin = 'balloon_inflate'"))
    assert scenario.inject[0].within == "balloon_inflate"


def test_an_endless_text_is_shortened():
    with pytest.raises(ScenarioError) as caught:
        Scenario.parse(vp("read " + "9" * 10_000))
    assert len(str(caught.value)) < 500
