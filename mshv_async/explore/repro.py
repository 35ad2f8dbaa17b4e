"""Repro files: one failing schedule that replays without any other file (formats.md 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mshv_async.driver import DriverError
from mshv_async.scenario import ScenarioError
from mshv_async.sim.tape import Decision, Tape

REPRO_SCHEMA = "mshv-async.repro/1"


class ReproError(Exception):
    """A file that cannot be replayed: damaged, of another schema, or not trusted. One line."""


class Departed(ReproError):
    """A repro that leaves its recording when it is replayed. One line: at which step, and why."""


class TapeEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One decision: which choice, what was taken, out of how many. JSON: `[label, value, bound]`.

    That `value` is below `bound` and that the label is the one asked for is judged in replay,
    which says at which step a tape that was edited departs.
    """

    label: str
    value: int
    bound: int


class StepTable(msgspec.Struct, frozen=True):
    """The recorded steps, each distinct line once: step number n did `table[index[n]]`.

    A line is `actor label object lo-hi r|w`, as it enters the digest. A replay that departs is
    compared with these, to say at which step.
    """

    table: list[str]
    index: list[int]

    def lines(self) -> list[str]:
        """Return one line for each step."""
        return [self.table[number] for number in self.index]


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """The run that a shrunk one was found as.

    `scenario` is its text if the repro's is a smaller one, else null. `trace`: its steps, as those
    of the repro.
    """

    decisions: list[TapeEntry]
    digest: str
    steps: int
    preemptions: int
    scenario: str | None = None
    trace: StepTable = msgspec.field(default_factory=lambda: StepTable([], []))


class Repro(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule of one scenario on one driver, with all that replaying it needs.

    `scenario` is the whole text of the scenario file; `files` holds the traces it uses, by name;
    `driver_source` the text of a user's driver file, else None; `original` the run before it was
    shrunk, if it was; `loop` the first of the steps that repeat for ever, and the first after
    them, where a livelock shows as such. Keys of later versions are ignored on loading.
    """

    schema: str = REPRO_SCHEMA
    scenario: str
    scenario_name: str
    files: dict[str, str]
    driver: str
    driver_source: str | None
    strategy: str
    seed: int
    decisions: list[TapeEntry]
    digest: str
    verdict: str
    title: str
    package_version: str
    loop: tuple[int, int] | None = None
    steps: StepTable = msgspec.field(default_factory=lambda: StepTable([], []))
    original: Original | None = None

    @property
    def tape(self) -> Tape:
        """The decisions as a strategy replays them."""
        return [Decision(d.label, d.value, d.bound) for d in self.decisions]

    def before_shrinking(self, path: str | Path = "repro") -> Repro:
        """Return the repro of the run as it was found. Raises ReproError if this is that run."""
        found = self.original
        if found is None:
            raise ReproError(f"{path}: holds no original: this is the run as it was found")
        return msgspec.structs.replace(
            self,
            scenario=self.scenario if found.scenario is None else found.scenario,
            decisions=found.decisions,
            digest=found.digest,
            steps=found.trace,
            original=None,
        )


def save_repro(path: str | Path, repro: Repro) -> None:
    """Write `repro` to `path`, whole or not at all, one key a line. Raises OSError."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    keys = msgspec.structs.asdict(repro).items()
    lines = [msgspec.json.encode(key) + b": " + msgspec.json.encode(value) for key, value in keys]
    part.write_bytes(b"{\n" + b",\n".join(lines) + b"\n}\n")
    part.replace(path)


def load_repro(path: str | Path) -> Repro:
    """Read a repro file. Raises ReproError if it is damaged, OSError if it cannot be read."""
    data = Path(path).read_bytes()
    try:
        kind = msgspec.json.decode(data, type=_Schema)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ReproError(f"{path}: is no repro file: {error}") from None
    if kind.schema != REPRO_SCHEMA:
        raise ReproError(f"{path}: schema is {kind.schema!r}, this version reads {REPRO_SCHEMA!r}")
    try:
        repro = msgspec.json.decode(data, type=Repro)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ReproError(f"{path}: is a damaged repro file: {error}") from None
    _check_table(path, "$.steps", repro.steps)
    if repro.original is not None:
        _check_table(path, "$.original.trace", repro.original.trace)
    return repro


def load_trusted(path: str | Path, *, trust: bool, original: bool = False) -> Repro:
    """Read a repro file that is to be replayed; `original`: as its run was found.

    Raises ReproError if it is damaged, has no original, or is not to be trusted; OSError.
    """
    repro = load_repro(path)
    if original:
        repro = repro.before_shrinking(path)
    check_trust(repro, trust=trust, path=path)
    return repro


def _check_table(path: str | Path, key: str, steps: StepTable) -> None:
    known = len(steps.table)
    for step, number in enumerate(steps.index):
        if not 0 <= number < known:
            raise ReproError(
                f"{path}: is a damaged repro file: {key}.index[{step}] is {number}, "
                f"the table has {known} lines"
            )


class _Schema(msgspec.Struct):
    schema: str


@contextmanager
def parts_of(path: str | Path) -> Iterator[None]:
    """Name the repro file where its scenario or its driver is no good: raise ReproError."""
    try:
        yield
    except (ScenarioError, DriverError) as error:
        raise ReproError(f"{path}: {error}") from error


def check_trust(
    repro: Repro, *, trust: bool, path: str | Path = "repro", how: str = "--trust"
) -> None:
    """Refuse, with ReproError, to run driver source that a file carries and nobody vouched for.

    `how`: what vouches for it.
    """
    if repro.driver_source is not None and not trust:
        raise ReproError(
            f"{path}: carries driver source ({repro.driver}), which would run as part of this "
            f"program: read it, then replay with {how}"
        )


def step_table(lines: Iterable[str]) -> StepTable:
    """Return the lines of a run, one for each step, as a repro keeps them."""
    numbers: dict[str, int] = {}
    index = [numbers.setdefault(line, len(numbers)) for line in lines]
    return StepTable(table=list(numbers), index=index)
