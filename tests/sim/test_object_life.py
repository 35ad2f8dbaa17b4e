"""Allocation, freeing, counting, grace periods, and what an uninitialised value does."""

from __future__ import annotations

import operator

import pytest
from playing import CLEAN, exhaust, play_once, random_runs, verdict_of
from toys import Box

from mshv_async.sim import (
    UNINIT,
    ModelFault,
    Mutex,
    RangeMap,
    Rcu,
    Refcount,
    Shared,
    SharedDict,
    SharedList,
    Srcu,
    is_freed,
    kfree,
    kzalloc,
    name_of,
    point,
    step,
)


def one(body):
    """Play one thread, alone."""

    def build(rt):
        rt.spawn("one", body)

    return play_once(build)


class Outer(Shared):
    __slots__ = ("inner", "mutex", "plain")
    _embedded = ("inner", "mutex")

    def __init__(self, name):
        super().__init__(name)
        self.mutex = Mutex(f"{name}.mutex", "OUTER")
        self.inner = Box(f"{name}.box")
        self.plain = 0


def test_any_use_of_a_freed_object_names_who_used_and_who_freed_it():
    async def releasing(box):
        await kfree(box)

    async def using(box):
        await releasing(box)
        await step("between")
        box.value = 8

    rt = one(lambda: using(Box("region@0x200")))
    assert rt.finding.verdict == "use-after-free"
    assert rt.finding.title == "use-after-free: using / releasing (region)"
    assert rt.finding.objects == ("region@0x200",)


TOUCHES = {
    "read": (Box, lambda o: o.value),
    "write": (Box, lambda o: setattr(o, "value", 1)),
    "call": (Refcount, lambda o: o.inc()),
    "len of a dict": (SharedDict, len),
    "in a dict": (SharedDict, lambda o: 0 in o),
    "index a dict": (SharedDict, lambda o: o[0]),
    "iterate a dict": (SharedDict, list),
    "len of a list": (SharedList, len),
    "in a list": (SharedList, lambda o: 0 in o),
    "index a list": (SharedList, lambda o: o[0]),
    "iterate a list": (SharedList, list),
    "len of a map": (RangeMap, len),
    "test a map": (RangeMap, bool),
    "iterate a map": (RangeMap, list),
    "look in a map": (RangeMap, lambda o: o.get(0)),
    "open a section": (Srcu, lambda o: o.read_lock()),
}


@pytest.mark.parametrize("touch", TOUCHES)
def test_every_way_to_touch_a_freed_object_is_seen(touch):
    make, use = TOUCHES[touch]

    async def user():
        obj = make("thing")
        await kfree(obj)
        use(obj)

    assert one(user).finding.verdict == "use-after-free"


def test_comparing_a_pointer_to_a_freed_object_is_no_use():
    async def user():
        box, other = Box(), Box()
        await kfree(box)
        assert box != other
        assert box in [other, box]
        assert box

    assert one(user).finding is None


def test_what_is_embedded_dies_with_its_object():
    async def user():
        outer = Outer("outer")
        inner, mutex = outer.inner, outer.mutex
        await kfree(outer)
        assert is_freed(outer)
        assert is_freed(inner)
        await mutex.lock()

    rt = one(user)
    assert rt.finding.verdict == "use-after-free"
    assert rt.finding.objects == ("outer.mutex",)


def test_freeing_twice_is_found_in_one_thread_and_between_two():
    async def twice():
        box = Box()
        await kfree(box)
        await kfree(box)

    assert "freed twice" in one(twice).finding.story[0]

    def build(rt):
        box = Box()
        rt.watch("object.free", lambda obj: obj.value)  # who watches looks before it is gone
        rt.spawn("one", lambda: kfree(box))
        rt.spawn("two", lambda: kfree(box))

    for rt in random_runs(build, 30):
        assert "freed twice" in rt.finding.story[0]


def test_whoever_waits_for_a_lock_that_is_freed_meets_it():
    def build(rt):
        outer = Outer("outer")
        mutex = outer.mutex

        async def user():
            await mutex.lock()
            await step("user.works")
            await mutex.unlock()

        rt.spawn("owner", user)
        rt.spawn("waiter", user)
        rt.spawn("freer", lambda: kfree(outer))

    met = set()
    for rt in random_runs(build, 100):
        if rt.finding is not None:
            assert rt.finding.verdict == "use-after-free"
            assert rt.finding.objects == ("outer.mutex",)
            met.add((rt.finding.threads[0], rt.trace[-1][1].label))
    assert ("waiter", "mutex.lock") in met, "it was let go on to meet the freed lock"
    assert ("owner", "mutex.unlock") in met or ("owner", "user.works") in met


def test_a_checker_may_ask_what_a_freed_object_was_and_its_name():
    async def user():
        box = Box("box7")
        await kfree(box)
        assert isinstance(box, Box)
        assert not isinstance(box, Mutex)
        assert name_of(box) == "box7"

    assert one(user).finding is None


def test_frees_and_allocations_are_told_to_watchers():
    told = []

    def build(rt):
        for fact in ("object.alloc", "object.free"):
            rt.watch(fact, lambda obj, fact=fact: told.append((fact, obj.name)))

        async def user():
            await kfree(kzalloc(Box, "b"))

        rt.spawn("one", user)

    play_once(build)
    assert told == [("object.alloc", "b"), ("object.free", "b")]


def test_a_count_refuses_what_a_kernel_count_refuses():
    refs = Refcount("refs", 1)
    assert refs.inc_not_zero()
    refs.inc()
    assert [refs.dec_and_test() for _ in range(3)] == [False, False, True]
    assert not refs.inc_not_zero()
    with pytest.raises(ModelFault, match="taken at zero"):
        refs.inc()
    with pytest.raises(ModelFault, match="below zero"):
        refs.dec_and_test()


@pytest.mark.parametrize("kind", [Srcu, Rcu])
def test_a_grace_period_waits_for_the_readers_open_at_its_start_and_no_later_ones(kind):
    def build(rt):
        srcu, log = kind("srcu"), []

        async def reader(name):
            await point("read.lock", srcu)
            section = srcu.read_lock()
            log.append(f"+{name}")
            await step("reading")
            log.append(f"-{name}")
            srcu.read_unlock(section)

        async def writer():
            await point("writer.starts")
            open_now = [w[1:] for w in log if w[0] == "+" and f"-{w[1:]}" not in log]
            await srcu.synchronize()
            assert all(f"-{name}" in log for name in open_now)
            log.append("grace")

        rt.spawn("r1", lambda: reader("r1"))
        rt.spawn("r2", lambda: reader("r2"))
        rt.spawn("w", writer)
        return lambda: " ".join(log)

    seen = exhaust(build, 2)
    assert {v for v, _ in seen} == {CLEAN}
    assert any("+r1 grace" in log for _, log in seen), "a later reader holds nothing up"


@pytest.mark.parametrize(("kind", "verdict"), [(Rcu, "sleep-in-atomic"), (Srcu, CLEAN)])
def test_only_sleepable_readers_may_sleep(kind, verdict):
    async def reader():
        rcu, mutex = kind("rcu"), Mutex("m", "M")
        section = rcu.read_lock()
        await mutex.lock()
        await mutex.unlock()
        rcu.read_unlock(section)

    assert verdict_of(one(reader)) == verdict


def test_synchronising_inside_ones_own_section_is_a_deadlock():
    async def reader():
        srcu = Srcu("srcu")
        section = srcu.read_lock()
        await srcu.synchronize()
        srcu.read_unlock(section)

    rt = one(reader)
    assert rt.finding.verdict == "deadlock"
    assert rt.finding.waits == ("one waits for one at srcu.grace_end srcu",)


def test_closing_a_section_twice_is_an_oops():
    async def reader():
        srcu = Srcu("srcu")
        section = srcu.read_lock()
        srcu.read_unlock(section)
        srcu.read_unlock(section)

    assert one(reader).finding.verdict == "oops"


@pytest.mark.parametrize(
    "use",
    [
        bool,
        int,
        len,
        list,
        str,
        operator.neg,
        operator.invert,
        operator.index,
        lambda v: v == 0,
        lambda v: v != 0,
        lambda v: v < 1,
        lambda v: 1 + v,
        lambda v: 1 << v,
        lambda v: v >> 1,
        lambda v: v ^ 1,
        lambda v: v // 2,
        lambda v: 7 % v,
        lambda v: v[0],
        lambda v: 0 in v,
        lambda v: v(),
        lambda v: v.mm,
        lambda v: setattr(v, "mm", 1),
        lambda v: f"{v}",
        lambda v: [10, 20][v],
    ],
)
def test_any_use_of_an_uninitialised_value_is_an_oops(use):
    async def user():
        use(UNINIT)

    rt = one(user)
    assert verdict_of(rt) == "oops"


def test_passing_an_uninitialised_value_on_is_no_use():
    async def user():
        held = [UNINIT]
        again = held[0]
        assert again is UNINIT
        assert repr(again) == "UNINIT"
        assert isinstance(again, object)

    assert one(user).finding is None
