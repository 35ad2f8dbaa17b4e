"""Whatever is wrong with a scenario, the user gets one line: file, key, found, allowed."""

import pytest
from bad_scenarios import GOOD, inject, told, vp, workload

from mshv_async.scenario import Scenario, ScenarioError

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
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_told_in_one_line(case, tmp_path):
    told(*CASES[case], tmp_path)


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
