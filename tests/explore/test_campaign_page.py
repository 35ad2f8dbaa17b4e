"""The page on campaigns says what the store holds, and which options divide a campaign."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import mshv_async
from mshv_async.cli import main
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.catalogue import STRATEGIES
from mshv_async.explore.numbers import BLOCK
from mshv_async.explore.store import STORE_NAME
from mshv_async.explore.workers import ATTEMPTS
from mshv_async.scenario import Scenario

PAGE = Path(mshv_async.__file__).parent.joinpath("reference/campaigns.md").read_text()


def stored(folder: Path) -> sqlite3.Connection:
    explore_sync(Scenario.load("litmus/one-page"), "fix1", schedules=5, store=folder)
    return sqlite3.connect(folder / STORE_NAME)


def test_the_page_has_exactly_the_tables_and_columns_of_the_store(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", PAGE, re.MULTILINE)
    listed = {table: re.findall(r"`(\w+)`", columns) for table, columns in rows}
    db = stored(tmp_path)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    known = {
        table: [column[1] for column in db.execute(f"PRAGMA table_info({table})")]
        for table in tables
    }
    keys = [key for (key,) in db.execute("SELECT key FROM campaign")]
    db.close()
    assert listed == known
    paragraph = PAGE.split("Keys of `campaign`:")[1].split("\n\n")[0]
    assert sorted(re.findall(r"`([a-z_]+)`", paragraph)) == sorted(keys)


def test_the_page_names_the_strategies_that_can_be_divided_and_those_that_cannot() -> None:
    sampling, exhaustive = PAGE.split("This holds for")[1].split("\n\n")[0].split("The exhaustive")
    names = set(re.findall(r"`(\w+)`", sampling))
    assert names == {n for n, cls in STRATEGIES.items() if not cls.exhaustive} - {"fifo"}
    names = set(re.findall(r"`(\w+)`", exhaustive.split(")")[0]))
    assert names == {n for n, cls in STRATEGIES.items() if cls.exhaustive}


def test_the_page_has_the_figures_of_the_code() -> None:
    assert f"blocks of {BLOCK} execution numbers" in PAGE
    assert ATTEMPTS == 3
    assert "At the third\n  death in a row" in PAGE


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    known = "litmus/one-page --driver fix1 --schedules 220"
    lines = re.findall(r"^mshv-async (explore .*--shard|merge) ([^#\n]*)", PAGE, re.MULTILINE)
    assert len(lines) == 3
    for verb, rest in lines[:2]:
        words = f"{verb.replace('SCENARIO', known)} {rest}".replace("/3", "/2").split()
        assert main(words) == 0
    _, rest = lines[2]
    assert main(["merge", *rest.replace("three ", "").split()]) == 0
    assert "220 schedules" in capsys.readouterr().out.rpartition("litmus/one-page")[2]
