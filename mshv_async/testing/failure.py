"""How a driven world fails a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mshv_async.log import Finding


class WorldFailure(AssertionError):
    """The execution ended with a finding, or was cut short; the text is the whole report.

    Raised by every call that is under way, by each later one, and when the test ends.
    """

    def __init__(self, report: str, finding: Finding | None = None) -> None:
        super().__init__(report)
        self.finding = finding

    @property
    def verdict(self) -> str | None:
        """What was found, as in design.md 7; None if the execution was cut short."""
        return self.finding.verdict if self.finding is not None else None
