"""Permitted failures happen where, as often and to whom the scenario says."""

from __future__ import annotations

import pytest
from playing import exhaust, play_once

from mshv_async.sim import Injection, injected, might_sleep_alloc, step
from mshv_async.sim.strategies import Dfs


def calls(n, *, rep=False, threads=1, at="hypercall.map_gpa"):
    """Threads that pass the point ``n`` times each; the result: who failed at which pass."""

    async def inner(name, failed):
        for i in range(n):
            failure = injected(at, rep=i if rep else None)
            if failure is not None:
                failed.append((name, i, failure.status or failure.errno))
            await step("next")

    async def outer(name, failed):
        await inner(name, failed)

    def build(rt):
        failed = []
        for t in range(threads):
            name = f"t{t}"
            rt.spawn(name, lambda name=name: outer(name, failed))
        return lambda: tuple(sorted(failed))

    return build


def results(build, *injections, preemptions=0):
    return {r for _, r in exhaust(build, preemptions, injections=injections)}


FAIL = Injection("hypercall.map_gpa", status="INSUFFICIENT_MEMORY")


def test_nothing_fails_and_nothing_is_decided_unless_permitted():
    rt = play_once(calls(3), Dfs(), injections=(Injection("alloc.region", errno="ENOMEM"),))
    assert rt.tape == []
    assert results(calls(3)) == {()}


def test_one_failure_may_come_at_any_pass_or_not_at_all():
    status = "INSUFFICIENT_MEMORY"
    assert results(calls(3), FAIL) == {(), *((("t0", i, status),) for i in range(3))}


def test_the_budget_counts_times():
    twice = Injection("hypercall.map_gpa", errno="EIO", times=2)
    assert {len(r) for r in results(calls(4), twice)} == {0, 1, 2}


def test_each_thread_has_a_budget_of_its_own():
    found = results(calls(2, threads=2), FAIL)
    assert max(len(r) for r in found) == 2
    assert all(len({name for name, *_ in r}) == len(r) for r in found)


@pytest.mark.parametrize(("within", "hits"), [("inner", True), ("outer", True), ("other", False)])
def test_within_restricts_to_callers_of_a_function(within, hits):
    injection = Injection("hypercall.map_gpa", errno="EIO", within=within)
    assert any(results(calls(1), injection)) == hits


def test_rep_restricts_to_one_element():
    injection = Injection("hypercall.map_gpa", errno="EIO", rep=2)
    assert results(calls(5, rep=True), injection) == {(), (("t0", 2, "EIO"),)}
    assert results(calls(5), injection) == {()}, "a call without elements has no third one"


def test_force_fails_at_the_first_match_without_a_decision():
    forced = Injection("hypercall.map_gpa", errno="EIO", force=True)
    rt = play_once(calls(3), Dfs(), injections=(forced,))
    assert rt.tape == []
    assert results(calls(3), forced) == {(("t0", 0, "EIO"),)}


def test_two_permissions_at_one_point_are_two_decisions():
    other = Injection("hypercall.map_gpa", status="ACCESS_DENIED")
    found = results(calls(1), FAIL, other)
    assert found == {(), (("t0", 0, "INSUFFICIENT_MEMORY"),), (("t0", 0, "ACCESS_DENIED"),)}


def test_a_call_that_an_actor_makes_for_a_thread_counts_for_that_thread():
    def build(rt):
        failed = []

        async def ioctl():
            await step("waits.for.the.actor")

        async def actor():
            failed.extend(t.name for t in rt.threads[:2] if injected("hypercall.map_gpa", caller=t))

        for name in ("one", "two"):
            rt.spawn(name, ioctl)
        rt.spawn("actor", actor)
        return lambda: tuple(failed)

    forced = Injection("hypercall.map_gpa", errno="EIO", force=True)
    rt = play_once(build, injections=(forced,))
    assert rt.injector.fired == {"one": 1, "two": 1}
    inside = Injection("hypercall.map_gpa", errno="EIO", force=True, within="ioctl")
    found = results(build, inside, preemptions=None)
    assert found == {(), ("one",), ("two",), ("one", "two")}, (
        "only those that stand in the call at that moment"
    )


def test_an_allocation_fails_only_where_it_is_permitted():
    def build(rt):
        got = []

        async def user():
            got.append(await might_sleep_alloc("region"))

        rt.spawn("one", user)
        return lambda: got[0]

    assert results(build) == {True}
    assert results(build, Injection("alloc.region", errno="ENOMEM")) == {True, False}
    assert results(build, Injection("alloc.pages", errno="ENOMEM")) == {True}
