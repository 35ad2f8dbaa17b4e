"""Program lines: what is written is what is parsed, and the other way round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mshv_async.scenario import Line, Operation, Program
from mshv_async.scenario.errors import Misfit
from mshv_async.scenario.operations import ADVICE, PROTECTIONS
from mshv_async.scenario.programs import parse_line

gfns = st.integers(0, (1 << 34) - 1)
pages = st.integers(1, 1 << 20)
addresses = st.integers(16, (1 << 35) - 1).map(lambda page: page << 12)
tags = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,39}", fullmatch=True)
places = st.fixed_dictionaries({"gfn": gfns}) | st.fixed_dictionaries({"address": addresses})
timings = st.builds(Operation, kind=st.just("sleep"), ns=st.integers(0, 1 << 62)) | st.builds(
    Operation, kind=st.just("yield")
)


def built(kind, place=places, **fields):
    return st.builds(
        lambda where, rest: Operation(kind=kind, **where, **rest),
        place,
        st.fixed_dictionaries(fields),
    )


at_gfn = st.fixed_dictionaries({"gfn": gfns})
nowhere = st.just({})
indices = st.integers(0, (1 << 32) - 1)
processes = st.none() | st.from_regex(r"[a-z][a-z0-9-]*", fullmatch=True)
host = (
    built("touch")
    | built("store", tag=tags)
    | built("madvise", pages=pages, advice=st.sampled_from(ADVICE))
    | built("munmap", pages=pages)
    | built("mprotect", pages=pages, prot=st.sampled_from(PROTECTIONS))
)
OPERATIONS = {
    "vp": built("read", at_gfn) | built("write", at_gfn, tag=tags) | built("exec", at_gfn),
    "host": host,
    "vmm": host
    | built(
        "map",
        at_gfn,
        pages=pages,
        backing=st.sampled_from(["anon", "thp", "hugetlb-2m"]),
        flags=st.sampled_from([(), ("writable",), ("executable",), ("writable", "executable")]),
        uaddr=st.none() | addresses,
    )
    | built("unmap", at_gfn)
    | built("create-vp", nowhere, vp=indices)
    | built("signal", nowhere, vp=st.integers(0, 999_999_999))
    | built("close", nowhere, file=st.just("vp"), vp=indices)
    | built("dup", nowhere, file=st.just("partition"))
    | built("kill", nowhere, process=processes)
    | st.just(Operation(kind="exit")),
    "reclaimer": built("reclaim", places | st.just({}), pages=pages),
    "khugepaged": built("collapse", pages=pages),
    "oom-reaper": built("reap", nowhere, process=processes),
}
kinds_and_lines = st.sampled_from(sorted(OPERATIONS)).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        st.builds(
            Line,
            operations=st.lists(OPERATIONS[kind] | timings, min_size=1, max_size=4).map(tuple),
            times=st.none() | st.integers(1, 1 << 31),
        ),
    )
)


@given(kinds_and_lines)
def test_a_written_line_is_parsed_as_what_it_was(kind_and_line):
    kind, line = kind_and_line
    assert parse_line(str(line), kind) == line


@given(st.text(max_size=40), st.sampled_from(sorted(OPERATIONS)))
def test_any_text_is_a_line_or_a_misfit(text, kind):
    try:
        line = parse_line(text, kind)
    except Misfit:
        return
    assert parse_line(str(line), kind) == line


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("vp", "  write   512  x ", Operation(kind="write", gfn=0x200, tag="x")),
        ("vp", "read 0X20", Operation(kind="read", gfn=32)),
        ("reclaimer", "reclaim some 3", Operation(kind="reclaim", pages=3)),
        ("host", "touch @0x10000", Operation(kind="touch", address=0x10000)),
        ("vmm", "close vp 0x1", Operation(kind="close", file="vp", vp=1)),
        ("vmm", "close partition", Operation(kind="close", file="partition")),
        ("vmm", "signal vp0", Operation(kind="signal", vp=0)),
        ("khugepaged", "collapse 0x200", Operation(kind="collapse", gfn=0x200)),
        (
            "vmm",
            "map 1 1MiB flags=none uaddr=0x7f0000000000",
            Operation(kind="map", gfn=1, pages=256, flags=(), uaddr=0x7F0000000000),
        ),
    ],
)
def test_spelling(kind, text, expected):
    assert parse_line(text, kind) == Line(operations=(expected,))


def test_a_group_is_repeated_as_a_group():
    one, two = Operation(kind="read", gfn=1), Operation(kind="read", gfn=2)
    program = Program((Line(operations=(one, two), times=2), Line(operations=(one,), times=None)))
    running = iter(program)
    assert [next(running) for _ in range(6)] == [one, two, one, two, one, one]
    assert program.forever
    assert not Program((Line(operations=(one,), times=2),)).forever
