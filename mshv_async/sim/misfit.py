"""The error of a tape that does not fit."""

from __future__ import annotations


class TapeMisfit(Exception):
    """A decision of the tape is not the one that the execution asks for.

    ``next_step``: it was to choose the thread of the step after the last one.
    """

    def __init__(self, why: str, *, next_step: bool) -> None:
        super().__init__(why)
        self.next_step = next_step
