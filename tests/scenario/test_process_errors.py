"""Processes, descriptors and processors that do not go together are told in one line."""

import pytest

from mshv_async.scenario import Scenario, ScenarioError

VP = "summary = 's'\n[[region]]\ngfn = 0x200\nsize = '8KiB'\n[[vp]]\nprogram = ['read 0x200']\n"
HELPER = "[[process]]\nname = 'helper'\n"


def vmm(line, rest=""):
    return f"{VP}[[thread]]\nkind = 'vmm'\nprogram = [{line!r}]\n{rest}"


CASES = {
    "process of a VP": (VP + "process = 'helper'", "vp[0].process", '"helper"', "a process: vmm"),
    "misspelt process": (
        VP + "process = 'halper'\n" + HELPER,
        "vp[0].process",
        'did you mean "helper"',
        "vmm, helper",
    ),
    "process twice": (VP + HELPER + HELPER, "process[1].name", '"helper"', "unlike vmm, helper"),
    "process of the VMM": (
        VP + "[[process]]\nname = 'vmm'",
        "process[0].name",
        '"vmm"',
        "small letters",
    ),
    "process without a name": (VP + "[[process]]\n", "process[0].name", "nothing", "text"),
    "odd size": (VP + HELPER + "memory = 5", "process[0].memory", "5 bytes", "multiple of 4096"),
    "too much memory": (
        VP + HELPER + "memory = '64MiB'",
        "process[0].memory",
        "0x4000000",
        "host.memory",
    ),
    "too many huge pages": (
        VP + "[host]\nhugetlb_2m = 4097",
        "host.hugetlb_2m",
        "4097",
        "from 0 to 4096",
    ),
    "thread of a process's name": (
        vmm("kill", "name = 'helper'\n" + HELPER),
        "thread[0].name",
        '"helper"',
        "no other thread or process",
    ),
    "reaper of a process": (
        VP + HELPER + "[[thread]]\nkind = 'oom-reaper'\nprocess = 'helper'\nprogram = ['reap']",
        "thread[0].process",
        "kind oom-reaper",
        "kind vmm or host",
    ),
    "guest page of another": (
        vmm("touch 0x200", "process = 'helper'\n" + HELPER),
        "thread[0].program[0]",
        "0x200, a guest page, in process helper",
        "@ADDR",
    ),
    "kill of nobody": (
        vmm("kill helpr", HELPER),
        "thread[0].program[0]",
        '"helper"',
        "vmm, helper",
    ),
    "reap of nobody": (
        VP + "[[thread]]\nkind = 'oom-reaper'\nprogram = ['reap x']",
        "thread[0].program[0]",
        '"x"',
        "a process: vmm",
    ),
    "no such VP": (vmm("close vp 1"), "thread[0].program[0]", "close vp 1", "create-vp: 0"),
    "vp without index": (vmm("close vp"), "thread[0].program[0]", "without an index", "for a vp"),
    "partition with index": (
        vmm("close partition 0"),
        "thread[0].program[0]",
        "with an index",
        "only for a vp",
    ),
    "close of something": (vmm("close 0"), "thread[0].program[0]", '"0"', "vp, partition"),
    "signal to nobody": (vmm("signal vp1"), "thread[0].program[0]", "vp1", "vp0 to vp0"),
    "signal by index": (vmm("signal 0"), "thread[0].program[0]", '"0"', "such as vp0"),
    "index beyond C's int": (
        vmm("create-vp 4294967296"),
        "thread[0].program[0]",
        '"4294967296"',
        "below 4294967296",
    ),
    "khugepaged does not discard": (
        VP + "[[thread]]\nkind = 'khugepaged'\nprogram = ['reap']",
        "thread[0].program[0]",
        "an operation of oom-reaper threads",
        "`collapse G [N]`",
    ),
    "switch": (VP + "[hypervisor]\nsplit = 'never'", "hypervisor.split", '"never"', '"refused"'),
    "whose tables": (VP + "[hypervisor]\ntables = 'host'", "hypervisor.tables", '"host"', '"root"'),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_go_together_is_told_in_one_line(case):
    text, key, found, allowed = CASES[case]
    with pytest.raises(ScenarioError) as caught:
        Scenario.parse(text, "bad")
    assert str(caught.value).isprintable()
    assert caught.value.key == key
    assert found in caught.value.found
    assert allowed in caught.value.allowed
