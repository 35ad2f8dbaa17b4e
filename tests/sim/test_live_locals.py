"""Locals that nothing reads any more are no state, and none that is read is left out."""

from __future__ import annotations

import types

import pytest

from mshv_async.sim.livelocals import live_locals


@types.coroutine
def pause():
    yield


def live_at_each_pause(coro):
    """Run a coroutine to its end; return what is live at each of its pauses."""
    found = []
    while True:
        try:
            coro.send(None)
        except StopIteration:
            return found
        found.append(live_locals(coro.cr_code, coro.cr_frame.f_lasti))


async def straight(a):
    b = a + 1
    await pause()
    c = b
    await pause()
    return c


async def assigned_again(times):
    last = None
    for _ in range(times):
        await pause()
        last = times
        print(last)


async def caught(a, b):
    try:
        await pause()
        a = 0
    except ValueError:
        return b
    await pause()
    return a


async def closed_over(a):
    def read():
        return a

    await pause()
    return read()


async def either(a, b):
    chosen = a or b
    await pause()
    x = chosen and b
    await pause()
    return x


@pytest.mark.parametrize(
    ("coro", "expected"),
    [
        (straight(1), [("b",), ("c",)]),
        (assigned_again(2), [("times",)] * 2),
        (caught(1, 2), [("b",), ("a",)]),
        (closed_over(1), [("a", "read")]),
        (either(0, 1), [("b", "chosen"), ("x",)]),
    ],
    ids=["straight", "loop", "handler", "closure", "branch"],
)
def test_a_local_is_live_while_something_may_read_it(coro, expected, capsys):
    assert live_at_each_pause(coro) == expected
    capsys.readouterr()


def test_what_a_coroutine_that_has_not_begun_was_given_is_live():
    coro = straight(1)
    live = live_locals(coro.cr_code, coro.cr_frame.f_lasti)
    coro.close()
    assert live in {("a",), None}
