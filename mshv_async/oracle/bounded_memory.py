"""bounded-memory: what the driver allocates is bounded, and given back (spec.md 6.4)."""

from __future__ import annotations
