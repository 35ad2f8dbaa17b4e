"""The store of a campaign: an SQLite file that holds, at any moment, what the campaign has come to.

One transaction for each batch that was played, in the order of their numbers: so a process that
dies at any moment leaves the sum of the executions from the first to some number, nothing lost of
them and nothing twice, and whoever resumes goes on after it. The tables are described in
reference/campaigns.md.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mshv_async.explore.batches import End
from mshv_async.explore.coverage import Coverage
from mshv_async.explore.numbers import Shard
from mshv_async.explore.results import CampaignError
from mshv_async.explore.tally import FailingRun, Tally
from mshv_async.sim.lockorder import Edge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mshv_async.explore.batches import Batch
    from mshv_async.sim import Tape
    from mshv_async.sim.orders import OrderedPair

STORE_NAME = "campaign.sqlite"
STORE_SCHEMA = "mshv-async.campaign/1"

TABLES = """
CREATE TABLE campaign (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (
    first INTEGER PRIMARY KEY, after INTEGER NOT NULL, schedules INTEGER NOT NULL,
    steps INTEGER NOT NULL, cut INTEGER NOT NULL, fair INTEGER NOT NULL, seconds REAL NOT NULL,
    end TEXT
);
CREATE TABLE warnings (
    batch INTEGER NOT NULL, site TEXT NOT NULL, times INTEGER NOT NULL, PRIMARY KEY (batch, site)
) WITHOUT ROWID;
CREATE TABLE lock_order (
    outer TEXT NOT NULL, inner TEXT NOT NULL, thread TEXT NOT NULL, step INTEGER NOT NULL,
    schedule INTEGER NOT NULL, PRIMARY KEY (outer, inner)
) WITHOUT ROWID;
CREATE TABLE deadlocked (class TEXT PRIMARY KEY, batch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE coverage (
    object TEXT NOT NULL, thread TEXT NOT NULL, label TEXT NOT NULL, next_thread TEXT NOT NULL,
    next_label TEXT NOT NULL, schedule INTEGER NOT NULL,
    PRIMARY KEY (object, thread, label, next_thread, next_label)
) WITHOUT ROWID;
CREATE TABLE findings (
    verdict TEXT NOT NULL, title TEXT PRIMARY KEY, first_schedule INTEGER NOT NULL,
    count INTEGER NOT NULL, schedule INTEGER NOT NULL, steps INTEGER NOT NULL,
    preemptions INTEGER NOT NULL, digest TEXT NOT NULL, tape BLOB NOT NULL, found_by TEXT
);
"""


class StoreError(CampaignError):
    """A folder whose campaign is another one, damaged, or in use. One line."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What must be the same for executions to be the same: their numbers then say which they are.

    ``scenario`` is the text, ``files`` JSON of what it uses by name.
    """

    scenario_name: str
    scenario: str
    files: str
    driver: str
    driver_source: str | None
    strategy: str
    seed: int
    preemptions: int | None
    package_version: str

    def difference(self, other: Identity) -> str | None:
        """Say in what another campaign differs, in a few words; None: it is the same."""
        theirs = asdict(other)
        for key, mine in asdict(self).items():
            if mine != theirs[key]:
                what = key.replace("_", " ")
                if key in {"scenario", "files", "driver_source"}:
                    return f"its {what} has another text"
                return f"its {what} is {theirs[key]}, not {mine}"
        return None


class Store:
    """One shard's campaign in its file."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        self._pairs: set[OrderedPair] = set()  # those that are known to be in the file

    @classmethod
    def create(cls, folder: Path, identity: Identity, shard: Shard) -> Store:
        """Make a new store in a folder, in place of one that is there. Raises StoreError."""
        path = folder / STORE_NAME
        if path.exists():
            _connected(path).close()  # not under the feet of a campaign that runs
            path.unlink()
        store = cls(path, _connected(path))
        with store._transaction():
            for statement in TABLES.split(";"):
                store._db.execute(statement)
            store._note(schema=STORE_SCHEMA, shard=str(shard), **asdict(identity))
        return store

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open the store of a folder. Raises StoreError."""
        path = folder / STORE_NAME
        if not path.is_file():
            raise StoreError(f"{folder}: holds no campaign ({STORE_NAME})")
        store = cls(path, _connected(path))
        found = store._noted("schema")
        if found != STORE_SCHEMA:
            raise StoreError(f"{path}: schema is {found!r}, this version reads {STORE_SCHEMA!r}")
        return store

    @classmethod
    def begun(cls, folder: Path) -> bool:
        """Say whether a folder holds a campaign; not if it was killed before it had tables."""
        path = folder / STORE_NAME
        if not path.exists():
            return False
        store = cls(path, _connected(path))
        tables = store._rows("SELECT name FROM sqlite_master")
        store.close()
        return bool(tables)

    def close(self) -> None:
        """Fold the log into the file and let go of it."""
        self._db.close()

    # -- what was played -----------------------------------------------------------------------

    def commit(self, batch: Batch, seconds: float) -> None:
        """Add a batch that begins where the last one ended; ``seconds`` of the whole campaign."""
        tally, first = batch.tally, batch.first
        figures = (tally.schedules, tally.steps, tally.cut, tally.fair, batch.seconds)
        end = None if batch.end is End.ERROR else batch.end
        with self._transaction():
            self._note(seconds=seconds)
            self._db.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (first, batch.after, *figures, end),
            )
            self._many(
                "INSERT INTO warnings VALUES (?, ?, ?)",
                [(first, *w) for w in tally.warnings.items()],
            )
            self._many(
                "INSERT OR IGNORE INTO lock_order VALUES (?, ?, ?, ?, ?)",
                [
                    (e.outer, e.inner, e.thread, e.step, tally.edge_schedules[pair])
                    for pair, e in tally.lock_order.edges.items()
                ],
            )
            self._many(
                "INSERT OR IGNORE INTO deadlocked VALUES (?, ?)",
                [(name, first) for name in sorted(tally.closed)],
            )
            self._add_coverage(tally.coverage)
            for run in tally.findings.values():
                self._add_finding(run)

    def _add_coverage(self, coverage: Coverage) -> None:
        new = [(*p, n) for p, n in coverage.first.items() if p not in self._pairs]
        self._many("INSERT OR IGNORE INTO coverage VALUES (?, ?, ?, ?, ?, ?)", new)
        self._pairs.update(coverage.first)

    def _add_finding(self, run: FailingRun) -> None:
        known = self._rows("SELECT * FROM findings WHERE title = ?", (run.title,))
        merged = _run(known[0]).merged(run) if known else run
        self._db.execute(
            "INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _row(merged)
        )

    def tally(self, below: int | None = None) -> Tally:
        """Return the sum of all batches, or of those whose numbers are below ``below``."""
        limit = (below if below is not None else 1 << 62,)
        tally = Tally()
        (figures,) = self._rows(
            "SELECT total(schedules), total(steps), total(cut), total(fair),"
            " coalesce(max(after), 0) FROM batches WHERE first < ?",
            limit,
        )
        tally.schedules, tally.steps, tally.cut, tally.fair, latest = (int(n) for n in figures)
        tally.coverage = self._coverage(limit, latest)
        tally.warnings = dict(
            self._rows("SELECT site, sum(times) FROM warnings WHERE batch < ? GROUP BY site", limit)
        )
        tally.closed = {
            n for (n,) in self._rows("SELECT class FROM deadlocked WHERE batch < ?", limit)
        }
        edges = "SELECT outer, inner, thread, step, schedule FROM lock_order WHERE schedule <= ?"
        for outer, inner, thread, step, schedule in self._rows(edges, limit):
            tally.lock_order.acquired(Edge(outer, inner, thread, step))
            tally.edge_schedules[outer, inner] = schedule
        runs = "SELECT * FROM findings WHERE first_schedule <= ?"
        tally.findings = {run.title: run for run in map(_run, self._rows(runs, limit))}
        return tally

    def _coverage(self, limit: tuple[int], latest: int) -> Coverage:
        coverage = Coverage(latest=latest)
        pairs = "SELECT * FROM coverage WHERE schedule <= ? ORDER BY schedule"
        for *pair, schedule in self._rows(pairs, limit):
            coverage.add(tuple(pair), schedule)
        return coverage

    @property
    def position(self) -> int:
        """The number after the last that was played; all of the shard's below it were."""
        (row,) = self._rows("SELECT coalesce(max(after), 0) FROM batches")
        return int(row[0])

    @property
    def end(self) -> End | None:
        """Why nothing followed the last batch."""
        rows = self._rows("SELECT end FROM batches ORDER BY first DESC LIMIT 1")
        return End(rows[0][0]) if rows and rows[0][0] else None

    @property
    def seconds(self) -> float:
        """How long the campaign has taken, on however many workers."""
        return float(self._noted("seconds") or 0.0)

    # -- what it is of -------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """What its executions are of."""
        values = {key: self._noted(key) for key in Identity.__dataclass_fields__}
        return Identity(**values)

    @property
    def shard(self) -> Shard:
        """Which of the executions are its own."""
        return Shard.parse(self._noted("shard"))

    @property
    def schedules(self) -> int:
        """The budget that it was last given."""
        return int(self._noted("schedules") or 0)

    @property
    def keep_going(self) -> bool:
        """Whether it was to go on after a finding."""
        return bool(self._noted("keep_going"))

    def budget(self, schedules: int, *, keep_going: bool) -> None:
        """Note what it is to play from now on."""
        with self._transaction():
            self._note(schedules=schedules, keep_going=keep_going)

    def _note(self, **values: Any) -> None:
        rows = [(key, msgspec.json.encode(value).decode()) for key, value in values.items()]
        self._many("INSERT OR REPLACE INTO campaign VALUES (?, ?)", rows)

    def _noted(self, key: str) -> Any:
        rows = self._rows("SELECT value FROM campaign WHERE key = ?", (key,))
        return msgspec.json.decode(rows[0][0]) if rows else None

    # -- SQLite --------------------------------------------------------------------------------

    def _rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with _told(self.path):
            return self._db.execute(statement, values).fetchall()

    def _many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        self._db.executemany(statement, rows)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def _row(run: FailingRun) -> tuple[Any, ...]:
    """Return a run as a row of `findings`, whose columns are its fields in their order."""
    names = FailingRun.__dataclass_fields__
    row = {name: getattr(run, name) for name in names}
    return tuple((row | {"tape": msgspec.msgpack.encode(run.tape)}).values())


def _run(row: tuple[Any, ...]) -> FailingRun:
    fields: dict[str, Any] = dict(zip(FailingRun.__dataclass_fields__, row, strict=True))
    tape: Tape = msgspec.msgpack.decode(fields.pop("tape"), type=list[tuple[str, int, int]])
    return FailingRun(**fields, tape=tape)


def _connected(path: Path) -> sqlite3.Connection:
    """Open a file for this process alone. Raises StoreError."""
    with _told(path):
        # What a killed process leaves is whole without waiting for the disk at each commit;
        # a power cut may cost the last batches.
        db = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("COMMIT")
        return db


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raise StoreError, in one line, for what SQLite has to say."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise StoreError(f"{path}: another campaign is running in this folder") from None
        raise StoreError(f"{path}: {error}") from None
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: is no campaign's store, or damaged: {error}") from None
