"""A campaign that is killed goes on where it was: nothing found is lost, nothing counted twice."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from campaigns import UNMAP, command, told

from mshv_async.cli import main
from mshv_async.explore import campaign as campaigns
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.catalogue import StrategyError
from mshv_async.explore.store import STORE_NAME, Store, StoreError
from mshv_async.scenario import Scenario

KILLS = 20 if os.environ.get("MSHV_ASYNC_LONG") else 3
SCHEDULES = 4000 if os.environ.get("MSHV_ASYNC_LONG") else 500
CAMPAIGN = ["explore", "bugs/unmap-during-fault", "--strategy", "random", "--keep-going"]
CAMPAIGN += ["--no-shrink", "--schedules", str(SCHEDULES), "--json"]


def outcome_of(text: str, folder: Path) -> dict[str, Any]:
    """Return an outcome without what may differ: time, workers, and where its files are."""
    outcome: dict[str, Any] = msgspec.json.decode(text)
    del outcome["seconds"], outcome["workers"]
    for finding in outcome["findings"]:
        finding["repro"] = str(Path(finding["repro"]).relative_to(folder))
    return outcome


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    return command(*CAMPAIGN, "--out", str(folder), *more)


def test_a_campaign_that_is_killed_ends_as_one_that_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*CAMPAIGN, "--out", str(tmp_path / "whole")]) == 0
    whole = outcome_of(capsys.readouterr().out, tmp_path / "whole")
    rng = random.Random(4)
    folder = tmp_path / "killed"
    reached = []
    for kill in range(KILLS):
        process = start(folder, "--resume", "--workers", str(1 + kill % 2))
        wait_for(folder / STORE_NAME)
        time.sleep(rng.random() * 1.2)
        process.kill()
        process.communicate()
        reached.append(position(folder, tmp_path))
    assert reached == sorted(reached)
    out, err = start(folder, "--resume", "--workers", "2").communicate(timeout=120)
    assert err == ""
    assert outcome_of(out, folder) == whole
    assert repros(folder) == repros(tmp_path / "whole")


def wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} does not come")


def position(folder: Path, scratch: Path) -> int:
    """Return how far a campaign came; of a copy, so that the store stays as the kill left it."""
    shutil.copytree(folder, scratch / "copy", dirs_exist_ok=True)
    at = 0
    if Store.begun(scratch / "copy"):
        store = Store.open(scratch / "copy")
        at = store.position
        store.close()
    shutil.rmtree(scratch / "copy")
    return at


def repros(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.repro.json")}


def test_a_result_is_resumed_and_extended_to_what_one_go_gives(tmp_path: Path) -> None:
    options: dict[str, Any] = {"strategy": "random", "keep_going": True}
    parts = [
        explore_sync(UNMAP, "v6", schedules=n, store=tmp_path, resume=True, **options)
        for n in (130, 300, 300)
    ]
    whole = explore_sync(UNMAP, "v6", schedules=300, **options)
    assert [part.schedules for part in parts] == [130, 300, 300]
    assert told(parts[1]) == told(parts[2]) == told(whole)
    assert sum(found.count for found in whole.findings) > 3


def test_a_campaign_that_stopped_at_its_first_finding_can_keep_going(tmp_path: Path) -> None:
    options: dict[str, Any] = {"strategy": "random", "schedules": 200}
    first = explore_sync(UNMAP, "v6", store=tmp_path, **options)
    again = explore_sync(UNMAP, "v6", store=tmp_path, resume=True, **options)
    assert told(again) == told(first)
    on = explore_sync(UNMAP, "v6", store=tmp_path, resume=True, keep_going=True, **options)
    assert told(on) == told(explore_sync(UNMAP, "v6", keep_going=True, **options))


def test_batches_are_in_the_file_while_the_campaign_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "SAVE_EVERY_S", 0.0)
    folder, seen = tmp_path / "out", []
    folder.mkdir()

    def look(*_: int) -> None:
        shutil.copytree(folder, tmp_path / "copy")
        db = sqlite3.connect(tmp_path / "copy" / STORE_NAME)
        seen.append(db.execute("SELECT sum(schedules), count(*) FROM batches").fetchone())
        db.close()
        shutil.rmtree(tmp_path / "copy")

    explore_sync(UNMAP, "fix1", schedules=130, store=folder, progress=look)
    assert seen == [(None, 0), (64, 64), (128, 128)]


def stored(tmp_path: Path, **options: Any) -> None:
    given: dict[str, Any] = {"strategy": "random", "schedules": 20, "keep_going": True} | options
    explore_sync(given.pop("scenario", UNMAP), given.pop("driver", "v6"), store=tmp_path, **given)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"seed": 2}, "its seed is 1, not 2"),
        ({"driver": "v7"}, "its driver is v6, not v7"),
        ({"strategy": "urw"}, "its strategy is random, not urw"),
        ({"scenario": Scenario.load("litmus/one-page")}, "its scenario name is bugs/unmap"),
        ({"keep_going": False}, "give --keep-going"),
        ({"schedules": 10}, "has come to schedule 20, more than 10: give --schedules"),
    ],
    ids=["seed", "driver", "strategy", "scenario", "keep-going", "budget"],
)
def test_a_folder_of_another_campaign_is_refused(
    tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    stored(tmp_path)
    before = (tmp_path / STORE_NAME).read_bytes()
    with pytest.raises(StoreError) as refused:
        stored(tmp_path, resume=True, **options)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (tmp_path / STORE_NAME).read_bytes() == before


def test_another_text_of_the_same_name_is_another_campaign(tmp_path: Path) -> None:
    stored(tmp_path)
    other = Scenario.parse(UNMAP.text + "# a comment\n", UNMAP.name)
    with pytest.raises(StoreError, match="its scenario has another text"):
        stored(tmp_path, scenario=other, resume=True)
    file = tmp_path / "mine.py"
    file.write_text("from mshv_async.driver import V6\nclass Mine(V6):\n    'As v6.'\n")
    stored(tmp_path, driver=f"{file}:Mine")
    file.write_text(file.read_text() + "# a comment\n")
    with pytest.raises(StoreError, match="its driver source has another text"):
        stored(tmp_path, driver=f"{file}:Mine", resume=True)


def test_a_folder_serves_one_campaign_at_a_time(tmp_path: Path) -> None:
    stored(tmp_path)
    running = Store.open(tmp_path)
    for resume in (False, True):
        with pytest.raises(StoreError, match="another campaign is running in this folder"):
            stored(tmp_path, resume=resume)
    running.close()
    stored(tmp_path, resume=True)


def test_a_file_that_is_no_store_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / STORE_NAME).write_text("no database, but long enough to look like one\n" * 9)
    with pytest.raises(StoreError) as refused:
        stored(tmp_path, resume=True)
    assert "is no campaign's store, or damaged" in str(refused.value)


@pytest.mark.parametrize("strategy", ["dfs", "stateful", "dpor"])
def test_an_exhaustive_strategy_is_not_resumed(tmp_path: Path, strategy: str) -> None:
    with pytest.raises(StrategyError, match=f"^--resume: strategy {strategy} needs"):
        stored(tmp_path, strategy=strategy, resume=True)


def test_resume_without_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "litmus/one-page", "--resume"]) == 2
    assert capsys.readouterr().err.endswith("give --out DIR\n")
