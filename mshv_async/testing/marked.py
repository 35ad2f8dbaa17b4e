"""Tests with the marker ``mshv``: their seeds, their loop, their world and its report.

A pytest plugin that is registered when the first marked test is collected.
"""

from __future__ import annotations

import functools
import os
import shlex
from asyncio import new_event_loop
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from mshv_async.sim.loop import sim_loop_factory
from mshv_async.testing.marker import MarkerError, Play, plays
from mshv_async.testing.world import World

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping

PLAY = "_mshv_play"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a marked test an item for each seed."""
    mark = metafunc.definition.get_closest_marker("mshv")
    if mark is None or metafunc.definition.get_closest_marker("asyncio") is None:
        return
    node = metafunc.definition
    try:
        found = plays(mark, node.path.parent)
    except MarkerError as error:
        said = f"{node.nodeid}: mark mshv: {error}"
        raise pytest.fail.Exception(said, pytrace=False) from None
    if "world" not in metafunc.fixturenames:
        pytest.fail(f"{node.nodeid}: mark mshv: the test does not take `world`", pytrace=False)
    metafunc.parametrize(PLAY, found, ids=[f"seed{play.seed}" for play in found], indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Generator[
    None,
    Mapping[str, Callable[[], AbstractEventLoop]],
    Mapping[str, Callable[[], AbstractEventLoop]],
]:
    """Give marked tests the simulated loop, all others what they would have without this plugin."""
    factories = yield
    if item.get_closest_marker("mshv") is not None:
        return {"mshv": sim_loop_factory}
    return factories or {"asyncio": new_event_loop}


@pytest.fixture(name=PLAY)
def play_fixture(request: pytest.FixtureRequest) -> Play:
    """Return what to play: scenario, driver and seed."""
    play = getattr(request, "param", None)
    if not isinstance(play, Play):
        pytest.fail("the fixture world is for async tests with the marker mshv", pytrace=False)
    return play


@pytest_asyncio.fixture(name="world", loop_scope="function")
async def world_fixture(_mshv_play: Play) -> AsyncIterator[World]:
    """Yield the world of a marked test: see :class:`mshv_async.World`."""
    play = _mshv_play
    opened = World(
        play.scenario,
        play.driver,
        seed=play.seed,
        strategy=play.strategy,
        programs=play.programs,
    )
    world = await opened.__aenter__()
    try:
        yield world
    finally:
        await world.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Judge the world when the body has returned; fail with the report of what it came to."""
    world = getattr(item, "funcargs", {}).get("world")
    if not isinstance(world, World) or not isinstance(item, pytest.Function):
        return (yield)
    item.obj = _judged(item.obj, world)
    try:
        return (yield)
    except (pytest.skip.Exception, KeyboardInterrupt):
        raise
    except BaseException:
        command = _command(item)
        if world.failed:
            raise pytest.fail.Exception(_report(world, command), pytrace=False) from None
        item.add_report_section("call", "mshv", f"replay: {command}\n\n{world.columns()}")
        raise


def _judged(
    body: Callable[..., Coroutine[Any, Any, None]], world: World
) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(body)
    async def judged(*args: Any, **kwargs: Any) -> None:
        await body(*args, **kwargs)
        await world.end()

    return judged


def _report(world: World, command: str) -> str:
    text = world.report(command)
    return (
        text if world.verdict is not None else f"{text}\n\nreplay: {command}\n\n{world.columns()}"
    )


def _command(item: pytest.Item) -> str:
    file = os.path.relpath(item.path, item.config.invocation_params.dir)
    inside = item.nodeid.partition("::")[2]
    return f"python -m pytest {shlex.quote(f'{file}::{inside}')}"
