"""Runs coroutines as threads of a small world that has nothing but a hypervisor."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from mshv_async.sim import Injection, Runtime, run_on_stage
from mshv_async.sim.strategies import Fifo

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Body = Callable[[], Coroutine[Any, Any, Any]]


def run_threads(
    bodies: dict[str, Body],
    *,
    set_up: Callable[[Runtime], None] | None = None,
    strategy: Any = None,
    begun: bool = False,
    **options: Any,
) -> Runtime:
    """Play one execution; ``begun``: the strategy has begun it already."""
    strategy = strategy or Fifo()
    if not begun:
        strategy.begin(0)
    rt = Runtime(strategy, **options)
    for name, body in bodies.items():
        rt.spawn(name, body)
    if set_up is not None:
        set_up(rt)
    run_on_stage(lambda stage: stage.play(rt))
    return rt


def run_alone(body: Body, *injections: Injection, name: str) -> Any:
    """Run one thread and return what its body returned."""
    results: list[Any] = []

    async def keep() -> None:
        results.append(await body())

    rt = run_threads({name: keep}, injections=injections)
    assert rt.finding is None, rt.finding
    return results[0]


@pytest.fixture
def alone() -> Callable[..., Any]:
    """Each call is an execution of its own; its thread's name is new, so is its processor."""
    serial = count()
    return lambda body, *injections: run_alone(body, *injections, name=f"vmm{next(serial)}")


@pytest.fixture
def threads() -> Callable[..., Runtime]:
    return run_threads
