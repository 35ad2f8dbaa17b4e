"""Settings of all tests."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes that tests start be as a user's: ^C reaches them, modules are compiled.

    In the background of a shell ^C is ignored, by all processes below. Where no compiled modules
    are kept, each process would compile the whole package before it begins. Those of pytest-xdist
    do: else they would compile the standard library, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    starts_workers = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if "PYTHONDONTWRITEBYTECODE" in os.environ and not starts_workers:
        del os.environ["PYTHONDONTWRITEBYTECODE"]
        folder = tempfile.TemporaryDirectory(prefix="mshv-async-bytecode-")
        os.environ["PYTHONPYCACHEPREFIX"] = folder.name
        config.add_cleanup(folder.cleanup)


def pytest_collection_finish() -> None:
    """Keep what the suite itself is made of out of the collector's way.

    Thousands of tests are hundreds of thousands of objects; each campaign would look at them all.
    """
    gc.collect()
    gc.freeze()
