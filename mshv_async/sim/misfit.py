"""The error of a tape that does not fit."""

from __future__ import annotations


class TapeMisfit(Exception):
    """A decision of the tape is not the one that the execution asks for."""
