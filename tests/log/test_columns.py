"""The columns are what people paste into mails: lines that wrap or step out of place mislead."""

import pytest
from hand_made import RACE, step
from hypothesis import given
from hypothesis import strategies as st

from mshv_async.log import StepRecord, column_of, columns
from mshv_async.log.columns import THREADS_MAX, WIDTH, matters
from mshv_async.log.repeats import fold_repeats

NAMES = ["vp0", "vp1", "guest0", "lp-vp0", "lp-guest1", "kswapd", "madvise", "a-very-long-name" * 9]

RECORDS = st.lists(
    st.builds(
        StepRecord,
        step=st.integers(1, 10**6),
        t_ns=st.none(),
        actor=st.sampled_from(NAMES),
        label=st.sampled_from(["mutex.lock", "hypercall.map_gpa.rep", "x" * 150, "guest.read"]),
        object=st.text(max_size=60),
        lo=st.integers(0, 2**52),
        hi=st.integers(0, 2**52),
        write=st.booleans(),
        preempted=st.booleans(),
        decision=st.none() | st.tuples(st.text(max_size=40), st.integers(0, 9), st.just(10)),
    ),
    max_size=80,
)


@given(RECORDS, st.integers(60, 160))
def test_no_line_is_wider_than_asked_and_none_breaks(steps, width):
    for line in columns(steps, width=width):
        assert len(line) <= width
        assert line.splitlines() in ([line], [])


@given(RECORDS)
def test_at_most_four_columns_and_the_rest_is_named(steps):
    lines = columns(steps)
    names = {column_of(record.actor) for record in steps}
    if len(names) > THREADS_MAX:
        assert lines[-1].startswith("not shown: ")
    elif steps:
        assert not lines[-1].startswith("not shown: ")


def test_each_step_stands_under_its_thread_in_order():
    lines = columns(RACE)
    header = lines[0]
    assert header.split() == ["vp0", "madvise"]
    left, right = header.index("vp0"), header.index("madvise")
    starts = [len(line[left:]) - len(line[left:].lstrip()) + left for line in lines[2:10]]
    assert starts == [left, left, right, left, left, right, right, right]
    assert [line.split()[0] for line in lines[2:10]] == [
        "2", "3", "4>", "5>", "6", "7", "8", "9",
    ]  # fmt: skip


def test_a_step_says_object_range_and_a_failure_that_was_chosen():
    text = "\n".join(columns(RACE))
    assert "mutex.lock region@0x200.mutex" in text
    assert "notifier.start mm0.subscriptions vpn 0x7f200-0x7f201" in text
    assert "guest.write slat1 0x200" in text
    assert "[hypercall.unmap_gpa = 1]" in text


def test_a_narrow_column_still_says_that_a_failure_was_chosen():
    failing = step(
        9, "vp0", "hypercall.map_gpa.rep", "s", 0x200, 0x201, decision=("hypercall.map_gpa", 1, 2)
    )
    crowd = [step(n, f"vp{n % 3}", "x" * 30, "y" * 30) for n in range(9)]
    assert "map_gpa.rep 0x200 [choice 1]" in "\n".join(columns([*crowd, failing]))


def test_the_benign_choice_is_not_shown():
    line = step(1, "vp0", "hypercall.map_gpa.rep", decision=("hypercall.map_gpa", 0, 2))
    assert "[" not in columns([line])[2]


@pytest.mark.parametrize(
    ("actor", "column"),
    [
        ("lp-vp0", "vp0"),
        ("guest3", "vp3"),
        ("lp-guest3", "vp3"),
        ("lp-madvise", "madvise"),
        ("guest-agent", "guest-agent"),
        ("guest", "guest"),
        ("kswapd", "kswapd"),
    ],
)
def test_who_shares_the_column_of_whom(actor, column):
    assert column_of(actor) == column


def test_threads_that_the_finding_names_are_kept_when_there_are_more_than_four():
    steps = [step(n, f"vp{n % 8}", "mutex.lock", "m") for n in range(1, 65)]
    steps.append(step(65, "oom-reaper", "pte.clear", "mm0"))
    lines = columns(steps, keep=["oom-reaper", "guest5"])
    assert lines[0].split()[-1] == "oom-reaper"
    assert "vp5" in lines[0].split()
    assert len(lines[0].split()) == THREADS_MAX
    assert lines[-1].startswith("not shown: vp")
    assert "8 steps" in lines[-1]


def test_long_runs_that_nobody_else_can_notice_are_folded_in_their_column():
    steps = [step(1, "madvise", "mutex.lock", "m")]
    steps += [step(n, "vp0", "step", f"private{n}") for n in range(2, 50)]
    steps += [step(50, "vp0", "mutex.lock", "m"), step(51, "madvise", "mutex.unlock", "m")]
    lines = columns(steps)
    assert [line.lstrip(" 0123456789") for line in lines[2:]] == [
        "mutex.lock m",
        "… 48 steps …",
        "mutex.lock m",
        "mutex.unlock m",
    ]


def test_a_short_interleaving_is_shown_whole():
    steps = [step(n, f"vp{n % 2}", "step", f"private{n}") for n in range(1, 20)]
    assert len(columns(steps)) == 2 + len(steps)


def test_what_a_thread_tells_its_own_worker_is_left_out_but_not_what_it_tells_others():
    steps = [
        step(1, "vp0", "thread.start"),
        step(2, "lp-vp0", "mailbox.receive", "lp-vp0.requests"),
        step(3, "vp0", "mailbox.send", "pressure"),
        step(4, "kswapd", "thread.start", preempted=True),
        step(5, "kswapd", "mailbox.receive", "pressure"),
    ]
    text = "\n".join(columns(steps))
    assert "requests" not in text
    assert text.count("pressure") == 2
    assert text.count("thread.start") == 1


def test_a_users_predicate_decides_what_is_folded():
    steps = [step(n, f"vp{n // 4 % 2}", "mutex.lock", f"m{n}") for n in range(8)]
    lines = columns(steps, important=lambda record: record.actor == "vp1")
    assert [line.lstrip(" 0123456789") for line in lines[2:]] == [
        "… 4 steps …",
        *(f"mutex.lock m{n}" for n in range(4, 8)),
    ]


def test_steps_around_a_preemption_and_the_last_of_each_thread_matter():
    steps = [step(n, "vp0", "step", f"private{n}") for n in range(1, 40)]
    steps.append(step(40, "vp1", "step", "own", preempted=True))
    steps.append(step(41, "vp0", "step", "private"))
    important = matters(steps)
    assert [record.step for record in steps if important(record)] == [39, 40, 41]


def test_a_livelock_is_one_turn_and_a_count():
    turn = [("vp0", "notifier.read_begin"), ("guest0", "guest.write"), ("vp1", "mutex.lock")]
    steps = [step(1, "madvise", "pte.clear", "mm0")]
    steps += [step(2 + n, *turn[n % 3], "m") for n in range(5000 * 3)]
    lines = columns(steps)
    assert len(lines) < 10
    assert any("… the 3 steps above 4999 times more …" in line for line in lines)


def test_what_is_too_long_is_left_out_in_the_middle():
    steps = [step(n, f"vp{n * n % 7 % 2}", "mutex.lock", f"m{n}") for n in range(1, 1000)]
    lines = columns(steps, important=lambda _: True)
    assert len(lines) < 250
    assert any("799 lines left out" in line for line in lines)
    assert lines[-1].split()[0] == "999"


def test_no_steps_is_said_rather_than_an_empty_table():
    assert columns([]) == ["(no steps)"]


def test_four_busy_columns_still_fit_a_commit_message():
    actors = ["vp0", "vp1", "madvise", "kswapd"]
    steps = [
        step(n, actors[n % 4], "hypercall.unmap_gpa.rep", "partition1.slat", n, n + 256)
        for n in range(1, 20)
    ]
    lines = columns(steps)
    assert max(len(line) for line in lines) <= WIDTH
    assert all("unmap_gpa.rep" in line for line in lines[2:])


@given(st.lists(st.integers(0, 2), max_size=60))
def test_folding_repeats_loses_no_row_but_whole_turns(rows):
    folded = fold_repeats(rows, key=lambda row: row, fold=lambda period, times: (period, times))
    unfolded = []
    for row in folded:
        if isinstance(row, tuple):
            period, times = row
            unfolded += unfolded[-period:] * times
        else:
            unfolded.append(row)
    assert unfolded == rows
