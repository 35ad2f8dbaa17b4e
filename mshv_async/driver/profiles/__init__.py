"""Versions of the driver. ``v6`` is the base; each later one overrides what it changed."""

from mshv_async.driver.profiles.fix1 import Fix1
from mshv_async.driver.profiles.v6 import V6
from mshv_async.driver.profiles.v7 import V7
from mshv_async.driver.profiles.v9 import V9

PROFILES: dict[str, type[V6]] = {"v6": V6, "v7": V7, "v9": V9, "fix1": Fix1}
"""By name, oldest first."""

__all__ = ["PROFILES", "V6", "V7", "V9", "Fix1"]
