"""In a worker process: play the batches that the campaign asks for, and hand back their tallies.

Nothing here may import what is for terminals only (typer, rich).
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from typing import TYPE_CHECKING

from mshv_async.explore.batches import Batch, End, Figures, Player, figures
from mshv_async.explore.collecting import THRESHOLD
from mshv_async.sim import run_on_stage

if TYPE_CHECKING:
    from collections.abc import MutableSequence

    from mshv_async.explore.transport import Work
    from mshv_async.sim import Stage

SHOW_EVERY = 16
"""Executions after which a worker shows how far it is."""


class Board:
    """What a campaign and its workers share: an array of integers, without a lock.

    A process that is killed would keep a lock for ever. Only the campaign writes the limit, from
    which on executions are not wanted; each batch that is out has figures of its own.
    """

    FIGURES = 3  # schedules, steps, findings

    def __init__(self, cells: MutableSequence[int]) -> None:
        self._cells = cells

    @classmethod
    def size(cls, slots: int) -> int:
        """Return how many integers it takes for so many batches at a time."""
        return 1 + slots * cls.FIGURES

    @property
    def limit(self) -> int:
        """The first number that is not wanted."""
        return self._cells[0]

    @limit.setter
    def limit(self, number: int) -> None:
        self._cells[0] = number

    def figures(self, slot: int) -> Figures:
        """Return how far a batch is: schedules, steps, findings."""
        at = 1 + slot * self.FIGURES
        return self._cells[at], self._cells[at + 1], self._cells[at + 2]

    def show(self, slot: int, batch: Batch | None) -> None:
        """Write how far a batch is; None: there is none."""
        at = 1 + slot * self.FIGURES
        self._cells[at], self._cells[at + 1], self._cells[at + 2] = (
            (0, 0, 0) if batch is None else figures(batch)
        )


class Worker:
    """One process's player, made when the first batch comes."""

    def __init__(self, work: Work, board: Board) -> None:
        self._work = work
        self._board = board
        self._player: Player | None = None

    def play(self, slot: int, first: int, after: int) -> Batch:
        """Play a batch; whatever goes wrong is in it."""
        if first >= self._board.limit:
            return Batch(first, first)
        try:
            batch: Batch = run_on_stage(lambda stage: self._played(stage, slot, first, after))
        except Exception as error:
            batch = Batch(first, first, end=End.ERROR, error=error)
        if batch.error is not None:
            batch.error = portable(batch.error)
        return batch

    async def _played(self, stage: Stage, slot: int, first: int, after: int) -> Batch:
        if self._player is None:
            self._player = self._work.player()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*THRESHOLD)
        board = self._board

        def leave(batch: Batch) -> bool:
            if not (batch.after - first - 1) % SHOW_EVERY:
                board.show(slot, batch)
            return batch.after >= board.limit

        return await self._player.play(stage, first, after, leave)


def portable(error: Exception) -> Exception:
    """Return an error that another process can take: itself, with its traceback as a note."""
    error.add_note("in a worker:\n" + "".join(traceback.format_tb(error.__traceback__)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    except Exception:
        lost = RuntimeError(f"{type(error).__name__}: {error}")
        lost.__notes__ = error.__notes__
        return lost
    return error


_worker: Worker | None = None  # the pool calls functions, so what they work with is here


def begin(work: Work, cells: MutableSequence[int]) -> None:
    """Make this process a worker."""
    global _worker  # noqa: PLW0603
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the campaign decides; it kills if it must
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = Worker(work, Board(cells))


def play(slot: int, first: int, after: int) -> Batch:
    """Play a batch in this worker."""
    assert _worker is not None
    return _worker.play(slot, first, after)


def _end_with_parent() -> None:
    """Leave when the campaign's process is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
