"""The command ``diff``: where two logs or repros part, and what each thread was doing there.

A repro is replayed and its log compared, so that there is one comparison. It is then played once
more, to look into the threads at the step where the two part.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mshv_async.explore.decisions import Standing, standing
from mshv_async.explore.playing import play_tape
from mshv_async.explore.repro import REPRO_SCHEMA, load_trusted, parts_of
from mshv_async.explore.results import log_verdict
from mshv_async.explore.single import replay_exactly, subject_of
from mshv_async.log import Difference, LogError, difference, write_log
from mshv_async.log.record import LOG_SCHEMA
from mshv_async.sim import run_on_stage
from mshv_async.sim.checkers import NullChecker

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.explore.repro import Repro
    from mshv_async.log.difference import Doing
    from mshv_async.sim import Op, Runtime, Stage, Thread

HEAD_BYTES = 1 << 12
"""So much of a file is looked at, to tell what it is."""


def _mark(schema: str) -> bytes:
    """Return what begins the value of a file's schema, of whatever version."""
    return f'"{schema.partition("/")[0]}/'.encode()


LOG_MARK, REPRO_MARK = _mark(LOG_SCHEMA), _mark(REPRO_SCHEMA)


def compare(
    a: Path, b: Path, *, trust: bool = False, tell: Callable[[Repro, Path], None] = lambda *_: None
) -> Difference:
    """Compare two runs, each a log or a repro.

    `trust` runs driver source that a repro carries; `tell` is called before a repro is replayed.
    Raises LogError, ReproError, Departed, OSError.
    """
    repros = [_repro(path, trust=trust) for path in (a, b)]
    for path, repro in zip((a, b), repros, strict=True):
        if repro is not None:
            tell(repro, path)
    with tempfile.TemporaryDirectory(prefix="mshv-async-") as folder:
        logs = [
            path
            if repro is None
            else _log_of(path, repro, Path(folder) / f"{name}.jsonl", trust=trust)
            for name, path, repro in zip("ab", (a, b), repros, strict=True)
        ]
        found = difference(*logs)
    found = msgspec.structs.replace(
        found,
        a=msgspec.structs.replace(found.a, file=str(a)),
        b=msgspec.structs.replace(found.b, file=str(b)),
    )
    played = next((repro for repro in repros if repro is not None), None)
    return found if found.same or played is None else _looked_into(found, played)


def _repro(path: Path, *, trust: bool) -> Repro | None:
    """Return the repro that a file is, None for a log. Raises LogError, ReproError, OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if LOG_MARK in head.partition(b"\n")[0]:
        return None
    if REPRO_MARK not in head:
        raise LogError(f"{path}: is neither a log nor a repro file")
    return load_trusted(path, trust=trust)


def _log_of(file: Path, repro: Repro, log: Path, *, trust: bool) -> Path:
    with parts_of(file):
        run = replay_exactly(repro, trust=trust)
    write_log(log, run.header, run.records, log_verdict(run))
    return log


def _looked_into(found: Difference, repro: Repro) -> Difference:
    """Add where each thread stands, as a replay shows it when the first other step begins."""
    look = _look(repro, found.steps + 1)
    doing = [_filled(d, look.standings.get(d.thread), look.held) for d in found.doing]
    return msgspec.structs.replace(found, doing=doing)


def _filled(doing: Doing, stands: Standing | None, held: dict[str, list[str]]) -> Doing:
    if stands is None:
        return doing
    return msgspec.structs.replace(
        doing,
        pending=doing.pending or f"{stands.label} {stands.object}".rstrip(),
        functions=stands.functions,
        held=held.get(doing.thread, doing.held),
    )


class _Look(NullChecker):
    """A checker that looks at all threads when one step begins."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.standings: dict[str, Standing] = {}
        self.held: dict[str, list[str]] = {}

    def step_begins(self, thread: Thread, op: Op) -> None:
        """Look, if it is the step."""
        del op
        if thread.rt.steps == self.step:
            for live in thread.rt.live:
                self.standings[live.name] = standing(live)
                self.held[live.name] = [lock.name for lock in live.held]


def _look(repro: Repro, step: int) -> _Look:
    look = _Look(step)
    subject = subject_of(repro)

    async def act(stage: Stage) -> Runtime:
        return await play_tape(subject, stage, repro.tape, seed=repro.seed, checkers=(look,))

    run_on_stage(act)
    return look
