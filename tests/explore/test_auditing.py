"""What cannot be replayed is told, with the step and the line that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mshv_async.cli import main
from mshv_async.driver import V6, DriverSpec, step
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.results import NotDeterministic
from mshv_async.scenario import Scenario

UNMAP = Scenario.load("bugs/unmap-during-fault")
PAGE = Scenario.load("litmus/one-page")

COIN = """\
import random
from mshv_async.driver import V6, step

class Coin(V6):
    async def region_range_fault(self, region, page_offset, page_count):
        if random.random() < 0.5:
            await step("heads")
        return await super().region_range_fault(region, page_offset, page_count)
"""


@pytest.mark.parametrize("strategy", ["random", "pct", "dfs", "stateful", "dpor", "portfolio"])
def test_the_shipped_driver_passes_with_every_kind_of_strategy(strategy: str) -> None:
    campaign = explore_sync(PAGE, "fix1", strategy=strategy, schedules=30, audit=True)
    assert campaign.error is None
    assert campaign.schedules == 30


@pytest.mark.parametrize("workers", [1, 2])
def test_a_driver_that_tosses_a_coin_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    file = tmp_path / "coin.py"
    file.write_text(COIN)
    args = ["explore", "litmus/one-page", "--driver", f"{file}:Coin", "--audit"]
    args += ["--workers", str(workers), "--out", str(tmp_path / "out")]
    assert main(args) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert " departs at step " in err
    assert "heads" in err
    assert " in region_range_fault (coin.py:" in err


class Remembers(V6):
    """Keeps something from one execution to the next."""

    faults = 0

    async def region_range_fault(self, region: Any, page_offset: int, page_count: int) -> int:
        type(self).faults += 1
        if type(self).faults > 40:
            await step("tired")
        return await super().region_range_fault(region, page_offset, page_count)


def test_what_an_execution_leaves_behind_for_the_next_is_found() -> None:
    with pytest.raises(NotDeterministic) as told:
        raise _error_of(DriverSpec("Remembers", Remembers, "v6"), audit=True)
    assert " departs at step " in str(told.value)
    assert "'vp0 tired  r'" in str(told.value)
    assert " in region_range_fault (test_auditing.py:" in str(told.value)


def _error_of(driver: DriverSpec, scenario: Scenario = PAGE, **options: Any) -> Exception:
    campaign = explore_sync(
        scenario, driver, strategy="random", schedules=200, keep_going=True, **options
    )
    assert campaign.error is not None
    return campaign.error


class Wavers(V6):
    """Every other execution is another one."""

    calls = 0

    async def region_range_fault(self, region: Any, page_offset: int, page_count: int) -> int:
        type(self).calls += 1
        if type(self).calls % 2:
            await step("wavering")
        return await super().region_range_fault(region, page_offset, page_count)


def test_a_finding_of_a_users_driver_that_does_not_replay_names_step_and_line() -> None:
    error = _error_of(DriverSpec("Wavers", Wavers, "v6"), scenario=UNMAP)
    assert isinstance(error, NotDeterministic), "and no defect of the emulator"
    assert "use-after-free" in str(error)
    assert "departs at step " in str(error)
