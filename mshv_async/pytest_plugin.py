"""The pytest plugin: marker ``mshv`` and, in marked tests, the fixture ``world``.

This module is loaded into every pytest session beside which the package is installed. So it
imports nothing of it, and does nothing until a marked test is met; then
:mod:`mshv_async.testing.marked` is registered, which does the work.
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any

import pytest

MARKER = (
    'mshv(scenario, driver="v6", seeds=(1,), strategy="portfolio", programs=False): '
    "run this async test on the simulated loop; the fixture `world` is the scenario's set-up, "
    "once for each seed."
)
HOOK = "pytest_asyncio_loop_factories"
WORKER = "mshv_async.testing.marked"


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> None:
    """Prepare a marked test function before pytest and pytest-asyncio look at it."""
    function = obj.__func__ if isinstance(obj, staticmethod) else obj
    if not isinstance(function, FunctionType) or not collector.funcnamefilter(name):
        return
    marks = getattr(function, "pytestmark", [])
    if not any(mark.name == "mshv" for mark in marks):
        if collector.get_closest_marker("mshv") is None:
            return
        if not inspect.iscoroutinefunction(function):
            return  # a plain function in a marked class or module
    where = f"{collector.nodeid}::{name}"
    if not inspect.iscoroutinefunction(function):
        raise collector.CollectError(f"{where}: mark mshv: found a plain function; allowed: async")
    _check_pytest_asyncio(collector.config, where)
    if not collector.config.pluginmanager.hasplugin(WORKER):
        collector.config.pluginmanager.import_plugin(WORKER)
    _run_by_pytest_asyncio(function, marks)


def _check_pytest_asyncio(config: pytest.Config, where: str) -> None:
    """Refuse a marked test where nothing can run it."""
    lacking = None
    if not config.pluginmanager.hasplugin("asyncio"):
        lacking = "pytest-asyncio is not installed or not enabled"
    elif not hasattr(config.hook, HOOK):
        lacking = f"this pytest-asyncio is too old (it has no {HOOK})"
    elif not hasattr(pytest, "HIDDEN_PARAM"):
        lacking = "this pytest is too old"
    if lacking is not None:
        needs = "mark mshv needs pytest-asyncio >= 1.5 and pytest >= 8.4"
        raise pytest.Collector.CollectError(f"{where}: {needs}; {lacking}")


def _run_by_pytest_asyncio(function: Any, marks: list[pytest.Mark]) -> None:
    """Let pytest-asyncio run the test, in strict mode too, on a loop that is the test's alone."""
    mark = pytest.mark.asyncio(loop_scope="function").mark
    if not marks or marks[0] != mark:
        function.pytestmark = [mark, *marks]  # the first one counts
