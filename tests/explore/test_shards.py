"""Parts of a campaign, played on several machines, add up to the campaign of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from campaigns import UNMAP, told

from mshv_async.cli import main
from mshv_async.explore.batches import Player
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.merging import merge_folders, merged_campaign
from mshv_async.explore.numbers import BLOCK, WHOLE, Numbers, Shard, ShardError
from mshv_async.explore.results import CampaignError
from mshv_async.explore.store import Store, StoreError


def test_shards_play_every_number_once() -> None:
    numbers: list[int] = []
    for part in (1, 2, 3):
        dealt = Numbers(0, 1234, Shard(part, 3))
        while (taken := dealt.take(77)) is not None:
            first, after = taken
            assert first // BLOCK == (after - 1) // BLOCK, "a range is of one block"
            numbers += range(first, after)
    assert sorted(numbers) == list(range(1234))
    assert Numbers(0, 50, Shard(2, 3)).take(9) is None
    assert Numbers(5, 50, WHOLE).take(99) == (5, 50)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", ""])
def test_a_shard_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ShardError, match="K/N"):
        Shard.parse(text)


def explored(tmp_path: Path, parts: int, **options: Any) -> list[Path]:
    folders = [tmp_path / f"part{n}" for n in range(1, parts + 1)]
    for number, folder in enumerate(folders, 1):
        folder.mkdir()
        explore_sync(UNMAP, store=folder, shard=Shard(number, parts), **options)
    return folders


def test_merged_shards_are_the_campaign_that_one_machine_would_have_run(tmp_path: Path) -> None:
    options: dict[str, Any] = {"strategy": "portfolio", "schedules": 220, "keep_going": True}
    merged = merge_folders(explored(tmp_path, 2, driver="v6", **options))
    assert merged.missing == []
    whole = explore_sync(UNMAP, "v6", **options)
    assert sum(found.count for found in whole.findings) > 3
    assert told(merged_campaign(merged, trust=False, shrink=False)) == told(whole)


@pytest.mark.parametrize("first", [130])
def test_shards_that_stop_at_a_finding_merge_to_the_first_of_all(
    tmp_path: Path, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is found before that execution, whoever plays it.
    monkeypatch.setattr(Player, "_one", _blind_before(first))
    options: dict[str, Any] = {"driver": "v6", "strategy": "random", "schedules": 400}
    folders = explored(tmp_path, 3, **options)
    merged = merge_folders(folders)
    assert merged.missing == []
    whole = explore_sync(UNMAP, **options)
    assert first < whole.schedules < 400
    assert told(merged_campaign(merged, trust=False, shrink=False)) == told(whole)


def _blind_before(first: int) -> Any:
    play = Player._one

    async def one(self: Player, stage: Any, batch: Any) -> None:
        number = batch.after
        if number >= first:
            await play(self, stage, batch)
            return
        self.strategy.begin(number)
        rt = await self.subject.play(stage, self.strategy, seed=self.seed)
        rt.finding = None
        batch.tally.count(rt, number + 1)
        batch.after = self._next = number + 1

    return one


def test_shards_that_are_missing_or_not_complete_are_named(tmp_path: Path) -> None:
    options: dict[str, Any] = {"driver": "fix1", "strategy": "random", "schedules": 250}
    first, second = explored(tmp_path, 2, **options)
    assert merge_folders([second]).missing == ["shard 1/2 is missing"]
    _give(first, 1000)
    with pytest.raises(CampaignError, match="its schedules is 250, not 1000"):
        merge_folders([first, second])
    _give(second, 1000)
    assert merge_folders([first, second]).missing == [
        f"{first}: shard 1/2 has come to 250 of 1,000",
        f"{second}: shard 2/2 has come to 200 of 1,000",
    ]


def _give(folder: Path, schedules: int) -> None:
    store = Store.open(folder)
    store.budget(schedules, keep_going=False)
    store.close()


def test_a_shard_is_not_resumed_as_another(tmp_path: Path) -> None:
    options: dict[str, Any] = {"strategy": "random", "schedules": 20, "store": tmp_path}
    explore_sync(UNMAP, "fix1", shard=Shard(1, 2), **options)
    with pytest.raises(StoreError, match="its shard is 1/2, not 2/2"):
        explore_sync(UNMAP, "fix1", shard=Shard(2, 2), resume=True, **options)


def test_merge_refuses_what_is_not_one_campaign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed, shard in (("a", 1, Shard(1, 2)), ("b", 2, Shard(2, 2)), ("c", 1, Shard(1, 2))):
        (tmp_path / name).mkdir()
        options: dict[str, Any] = {"strategy": "random", "schedules": 5, "seed": seed}
        explore_sync(UNMAP, "fix1", shard=shard, store=tmp_path / name, **options)
    a, b, c = (str(tmp_path / name) for name in "abc")
    for folders, why in (
        ([a, b], f"{b}: holds another campaign: its seed is 2, not 1"),
        ([a, c], f"{a} and {c}: both hold shard 1/2"),
        ([a, str(tmp_path / "d")], f"{tmp_path / 'd'}: holds no campaign"),
    ):
        assert main(["merge", *folders]) == 2
        assert why in capsys.readouterr().err


def test_the_command_merges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"strategy": "random", "schedules": 200, "keep_going": True}
    first, second = explored(tmp_path, 2, driver="v6", **options)
    args = ["--no-shrink", "--json", "--out", str(tmp_path / "merged")]
    assert main(["merge", str(first), str(second), *args]) == 0
    outcome = msgspec.json.decode(capsys.readouterr().out)
    assert (outcome["schedules"], outcome["interrupted"]) == (200, False)
    assert all(Path(finding["repro"]).is_file() for finding in outcome["findings"])
    assert main(["merge", str(first), *args]) == 1, "part of a campaign is not what was expected"
    assert "shard 2/2 is missing" in capsys.readouterr().err
