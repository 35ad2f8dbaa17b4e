"""The machine of the driver's tests, under a name of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "driver"))

from driver_world import GFN, Machine, argument, read, touches, verdict, write

__all__ = ["GFN", "Machine", "argument", "read", "touches", "verdict", "write"]
