"""Settings of all tests."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Keep what the suite itself is made of out of the collector's way.

    Thousands of tests are hundreds of thousands of objects; each campaign would look at them all.
    """
    gc.collect()
    gc.freeze()
