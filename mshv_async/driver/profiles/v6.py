"""Version 6 of the series, 17 November 2025, as posted: the base of all other versions."""

from __future__ import annotations

from mshv_async.driver.partition import PartitionIoctls


class V6(PartitionIoctls):
    """Movable regions as first reviewed.

    Its functions stand in the modules of the concern, in call order: ``partition``, ``run_vp``,
    ``memory``, ``fault``, ``region``, ``invalidate``, ``remap``, ``hypercalls``. It has the
    defects that the catalogue lists for v6, unmended.
    """
