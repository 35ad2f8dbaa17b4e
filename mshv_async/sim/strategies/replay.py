"""replay: follow a tape; where it ends, go on as fifo does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.liveness import SETTLE
from mshv_async.sim.misfit import TapeMisfit
from mshv_async.sim.strategies.fifo import Fifo
from mshv_async.sim.strategies.settling import settle
from mshv_async.sim.tape import THREAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.thread import Thread


class Replay(Fifo):
    """Plays one tape. A decision with another label or bound raises :class:`TapeMisfit`."""

    def __init__(self, tape: Sequence[tuple[str, int, int]]) -> None:
        self._tape = tape
        self._at = 0

    def begin(self, execution: int) -> bool:
        """Rewind."""
        self._at = 0
        return execution == 0

    @property
    def left(self) -> int:
        """How many decisions were not asked for."""
        return len(self._tape) - self._at

    def _take(self, label: str, bound: int) -> int | None:
        if self._at >= len(self._tape):
            return None
        taken, value, options = self._tape[self._at]
        if taken != label or options != bound or not 0 <= value < bound:
            raise TapeMisfit(
                f"decision {self._at} is {taken!r} {value} of {options}, "
                f"the execution asks for {label!r} of {bound}",
                next_step=label == THREAD,
            )
        self._at += 1
        return value

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Take the next decision of the tape; it may be that the second phase begins before."""
        if self.second_phase():
            index = settle(enabled, current)
            if self._at < len(self._tape):
                self._take(THREAD, len(enabled))
            return index
        value = self._take(THREAD, len(enabled))
        return super().pick(enabled, current) if value is None else value

    def second_phase(self) -> bool:
        """Say whether the second phase began where the strategy lost its say."""
        begins = self._at < len(self._tape) and self._tape[self._at][:2] == (SETTLE, 1)
        self._at += begins
        return begins

    def value(self, label: str, bound: int) -> int:
        """Take the next decision of the tape."""
        value = self._take(label, bound)
        return super().value(label, bound) if value is None else value
