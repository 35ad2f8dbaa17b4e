"""Limits of one execution, and what happens at each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits in scheduler steps unless the name says otherwise.

    ``progress_steps``: steps for one program operation before the execution turns fair, and
    again before it is a livelock; ``page_steps`` are added for each page of the operation.
    ``lockstep``: the fair tail lets all processors run at the same speed, one step each in turn,
    instead of at mixed speeds. ``max_steps``: the execution is cut there and says so;
    ``hung_task_ns``: timed mode.
    """

    progress_steps: int = 2_000
    page_steps: int = 4
    lockstep: bool = False
    max_steps: int = 2_000_000
    hung_task_ns: int = 120_000_000_000
