"""Worlds that a test drives, call by call, on the simulated loop.

`World` is what the fixture `world` gives; `pytest_plugin` marks the tests, `marked` runs them.
"""

from mshv_async.testing.failure import WorldFailure
from mshv_async.testing.world import World

__all__ = ["World", "WorldFailure"]
