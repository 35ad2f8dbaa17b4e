"""Messages between actors; maps, dictionaries and lists that threads share."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import CLEAN, exhaust, play_once, random_runs, verdict_of

from mshv_async.sim import (
    KILLABLE,
    SLEEP,
    Grain,
    Mailbox,
    RangeMap,
    Reply,
    SharedDict,
    SharedList,
    point,
    tell,
)
from mshv_async.sim.statekey import KeyWriter

# -- mailboxes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_messages_of_one_sender_arrive_once_and_in_order_and_never_exceed_the_capacity(capacity):
    def build(rt):
        box, got = Mailbox("box", capacity), []

        async def producer():
            for i in range(3):
                await box.send(i)
                assert len(box.messages) <= capacity

        async def consumer():
            got.extend([await box.receive() for _ in range(3)])

        rt.spawn("producer", producer)
        rt.spawn("consumer", consumer)
        return lambda: tuple(got)

    assert set(exhaust(build)) == {(CLEAN, (0, 1, 2))}


def test_two_producers_merge_in_every_order():
    def build(rt):
        box, got = Mailbox("box"), []

        async def producer(*messages):
            for message in messages:
                await tell(box, message)

        async def consumer():
            got.extend([await box.receive() for _ in range(3)])

        rt.spawn("p", lambda: producer("a", "b"))
        rt.spawn("q", lambda: producer("x"))
        rt.spawn("consumer", consumer)
        return lambda: "".join(got)

    assert {r for _, r in exhaust(build, 3)} == {"abx", "axb", "xab"}


@pytest.mark.parametrize("suspended", [False, True])
def test_who_waits_for_a_message_that_nobody_sends_is_a_deadlock_unless_a_daemon(suspended):
    def build(daemon):
        def spawn(rt):
            box = Mailbox("box")

            async def actor():
                await box.receive()
                await box.receive()

            async def sender():
                await box.send(1)

            rt.spawn("actor", actor, daemon=daemon)
            rt.spawn("sender", sender)

        return spawn

    for rt in random_runs(build(True), 20, suspended=suspended):
        assert verdict_of(rt) == CLEAN
    for rt in random_runs(build(False), 20, suspended=suspended):
        assert verdict_of(rt) == "deadlock"
        assert rt.finding.threads == ("actor",)


def test_a_full_mailbox_waits_for_its_receiver_and_may_close_a_circle_over_it():
    def build(rt):
        box, answer = Mailbox("box", 1), Mailbox("answer", 1)

        async def actor():
            await box.receive()
            await answer.send("one")
            await answer.send("two")  # full: nobody reads before all questions are put

        async def asker():
            for _ in range(3):
                await box.send("question")
            await answer.receive()

        rt.spawn("actor", actor)
        rt.spawn("asker", asker)

    seen = {verdict_of(rt) for rt in random_runs(build, 30)}
    assert seen == {"deadlock"}


def test_posting_is_no_step_and_refuses_to_overflow():
    async def user():
        box = Mailbox("box", 1)
        box.post("only")
        box.post("too much")

    with pytest.raises(AssertionError, match="box overflows"):
        play_once(lambda rt: void(rt.spawn("one", user)))


def void(_):
    """Drop a value: a build returns a result function or nothing."""


def test_a_posted_message_wakes_an_idle_receiver():
    def build(rt):
        box, got = Mailbox("box"), []

        async def actor():
            got.append(await box.receive())

        async def poster():
            await point("post")
            box.post("hello")

        rt.spawn("actor", actor)
        rt.spawn("poster", poster)
        return lambda: tuple(got)

    assert set(exhaust(build)) == {(CLEAN, ("hello",))}


def test_a_reply_is_got_once_it_is_set_and_names_who_owes_it():
    def build(answers):
        def spawn(rt):
            got = []

            async def asker():
                got.append(await reply.get())

            async def actor():
                await point("actor.works")
                if answers:
                    reply.set(42)
                else:
                    await Reply("mine", asking).get()

            asking = rt.spawn("asker", asker)
            reply = Reply("reply", rt.spawn("actor", actor))
            return lambda: tuple(got)

        return spawn

    assert set(exhaust(build(True))) == {(CLEAN, (42,))}
    rt = play_once(build(False))
    assert rt.finding.verdict == "deadlock"
    assert set(rt.finding.threads) == {"asker", "actor"}


def test_a_signal_ends_a_killable_question_with_none():
    def build(rt):
        reply, got = Reply("reply"), []

        async def asker():
            got.append(await reply.get(kind=SLEEP, wait=KILLABLE))

        async def killer():
            await point("signal.send")
            thread.signal_fatal()

        thread = rt.spawn("asker", asker)
        rt.spawn("killer", killer)
        return lambda: got[0]

    assert set(exhaust(build)) == {(CLEAN, None)}


# -- range maps ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """A linear value: frame ``pfn`` of allocation ``of``."""

    of: str
    pfn: int

    def advance(self, n):
        return Frame(self.of, self.pfn + n)


KEYS = 24
ranges = st.tuples(st.integers(0, KEYS), st.integers(0, KEYS)).map(sorted)
plain_values = st.sampled_from("abc")
linear_values = st.builds(Frame, st.sampled_from("ab"), st.integers(0, 6))


def edits(values):
    return st.lists(st.tuples(ranges, st.none() | values), max_size=25)


def value_at(value, lo, key, *, linear):
    return value.advance(key - lo) if linear else value


def check(steps, *, linear):
    """Compare with a dictionary of single keys after every edit."""
    ranged, model = RangeMap("map", linear=linear), {}
    for (lo, hi), value in steps:
        told = {k: kind for a, b, kind in ranged._changes(lo, hi, value) for k in range(a, b)}
        for key in range(lo, hi):
            new = value if value is None else value_at(value, lo, key, linear=linear)
            old = model.get(key)
            kind = "absent" if old is None else "present"
            assert told.pop(key) == (None if old == new else kind), "what a write changes"
        assert not told
        if value is None:
            ranged.clear(lo, hi)
        else:
            ranged.set(lo, hi, value)
        for key in range(lo, hi):
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value_at(value, lo, key, linear=linear)
        assert [ranged.get(k) for k in range(-1, KEYS + 1)] == [
            model.get(k) for k in range(-1, KEYS + 1)
        ]
        runs = list(ranged)
        assert all(a < b for a, b, _ in runs)
        for (_, end, left), (start, _, right) in pairwise(runs):
            assert end <= start
            first = runs[[r[1] for r in runs].index(end)][0]
            joined = value_at(left, first, start, linear=linear)
            assert end < start or joined != right, "neighbours that agree are one run"
        assert len(ranged) == len(runs)
        assert bool(ranged) == bool(model)
    return ranged, model


@given(edits(plain_values))
@settings(max_examples=150, deadline=None)
def test_a_range_map_is_a_dictionary_of_single_keys(steps):
    check(steps, linear=False)


@given(edits(linear_values))
@settings(max_examples=150, deadline=None)
def test_a_linear_range_map_is_a_dictionary_whose_values_count_along(steps):
    check(steps, linear=True)


@pytest.mark.parametrize("linear", [False, True])
@given(st.data())
@settings(max_examples=80, deadline=None)
def test_runs_pieces_and_totals_tell_the_same_story_of_any_part(linear, data):
    values = linear_values if linear else plain_values
    ranged, model = check(data.draw(edits(values)), linear=linear)
    lo, hi = data.draw(ranges)
    present = {}
    for a, b, value in ranged.runs(lo, hi):
        assert lo <= a < b <= hi
        present.update({k: value_at(value, a, k, linear=linear) for k in range(a, b)})
    assert present == {k: v for k, v in model.items() if lo <= k < hi}
    assert ranged.total(lo, hi) == len(present)
    pieces = ranged.pieces(lo, hi)
    assert [p for p in pieces if p[2] is not None] == ranged.runs(lo, hi)
    assert [a for a, _, _ in pieces] == [lo, *(b for _, b, _ in pieces)][: len(pieces)]
    assert not pieces or pieces[-1][1] == hi


def test_the_cost_of_a_map_follows_its_runs_and_not_its_span():
    ranged = RangeMap("map", linear=True)
    ranged.set(0, 1 << 40, Frame("a", 0))
    ranged.clear(1 << 20, (1 << 20) + 1)
    assert len(ranged) == 2
    assert ranged.total(0, 1 << 40) == (1 << 40) - 1
    assert ranged.get(1 << 39) == Frame("a", 1 << 39)
    ranged.set(1 << 20, (1 << 20) + 1, Frame("a", 1 << 20))
    assert len(ranged) == 1, "the hole closes without a seam"


# -- grain ---------------------------------------------------------------------------------------


@given(st.frozensets(st.integers(0, KEYS), max_size=6), ranges, st.booleans())
def test_a_grain_cuts_named_keys_out_alone_and_groups_the_gaps(named, part, exact):
    lo, hi = part
    pieces = Grain(named, exact=exact).pieces(lo, hi)
    assert [k for a, b in pieces for k in range(a, b)] == list(range(lo, hi))
    alone = {a for a, b in pieces if b == a + 1}
    assert {k for k in named if lo <= k < hi} <= alone
    if exact:
        assert all(b == a + 1 for a, b in pieces)
    else:
        assert len(pieces) <= 2 * sum(lo <= k < hi for k in named) + 1


# -- dictionaries and lists ----------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers())))
def test_a_shared_dict_is_a_dict_in_the_order_of_its_keys(steps):
    shared, model = SharedDict("d"), {}
    for key, value in steps:
        if value is None:
            assert shared.pop(key, "none") == model.pop(key, "none")
        else:
            shared[key] = model[key] = value
    assert list(shared) == shared.keys() == sorted(model)
    assert shared.items() == sorted(model.items())
    assert shared.values() == [model[key] for key in sorted(model)]
    assert len(shared) == len(model)
    assert [(k in shared, shared.get(k, -1)) for k in range(6)] == [
        (k in model, model.get(k, -1)) for k in range(6)
    ]


def test_a_shared_dict_may_change_while_it_is_looped_over():
    shared = SharedDict("d")
    for key in range(3):
        shared[key] = key
    for key in shared:
        shared.pop(key)
    assert len(shared) == 0


def test_a_shared_list_compares_by_identity_as_pointers_do():
    shared, one, other = SharedList("l"), [1], [1]
    shared.append(one)
    assert one in shared
    assert other not in shared
    with pytest.raises(ValueError, match="l does not hold it"):
        shared.remove(other)
    shared.insert(0, other)
    assert shared[0] is other
    shared.remove(one)
    assert list(shared) == [other]
    for element in shared:
        shared.remove(element)
    assert len(shared) == 0


def test_a_map_that_was_emptied_is_the_same_state_as_one_that_was_never_filled():
    def written(rangemap):
        writer = KeyWriter()
        writer.write(rangemap)
        return writer.out

    used = RangeMap("used")
    used.set(1, 2, "x")
    assert written(used) != written(RangeMap("fresh"))
    used.clear(1, 2)
    assert written(used) == written(RangeMap("fresh"))
