"""Scenarios whose threads go on for ever, processes that are killed, drivers that do not run."""

from __future__ import annotations

import pytest

from mshv_async.cli import main
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.single import run_scenario
from mshv_async.scenario import Scenario

PAGE = "summary = 's'\n[host]\nswap = '1MiB'\n[[region]]\ngfn = 0x200\nsize = '4KiB'\n"
FOREVER = "[[vp]]\nprogram = ['forever read 0x200']\n"
DISCARD = "[[thread]]\nkind = 'host'\nprogram = ['madvise dontneed 0x200 1']\n"


@pytest.mark.parametrize("text", [PAGE + FOREVER + DISCARD, PAGE + FOREVER])
@pytest.mark.parametrize("strategy", ["portfolio", "random"])
def test_a_guest_that_goes_on_for_ever_ends_with_the_others(text: str, strategy: str) -> None:
    campaign = explore_sync(Scenario.parse(text), "fix1", strategy=strategy, schedules=60)
    assert (campaign.schedules, campaign.cut, list(campaign.findings)) == (60, 0, [])


def test_it_does_so_in_timed_mode() -> None:
    scenario = Scenario.parse(PAGE + FOREVER + DISCARD)
    result = run_scenario(scenario, "fix1", 1, realtime=False, keep_log=False)
    assert result.verdict == "clean"


@pytest.mark.parametrize("strategy", ["portfolio", "random"])
def test_the_guest_of_a_killed_thread_owes_nothing(strategy: str) -> None:
    text = PAGE + (
        "[[vp]]\nprogram = ['write 0x200', 'read 0x200']\n"
        "[[thread]]\nkind = 'vmm'\nprogram = ['kill']\n"
        "[[thread]]\nkind = 'reclaimer'\nprogram = ['repeat 3000 reclaim 0x200 1']\n"
    )
    campaign = explore_sync(
        Scenario.parse(text), "fix1", strategy=strategy, schedules=30, keep_going=True
    )
    assert list(campaign.findings) == []


def test_a_fair_tail_takes_no_choices_so_nothing_is_exhausted() -> None:
    text = (
        PAGE
        + DISCARD.replace("['madvise", "['repeat 2 madvise")
        + (
            "[bounds]\nprogress_steps = 3\n"
            "[[inject]]\nat = 'hypercall.map_gpa'\nstatus = 'TIMEOUT'\n"
        )
    )
    campaign = explore_sync(
        Scenario.parse(text), "fix1", strategy="dfs", schedules=5_000, keep_going=True
    )
    assert campaign.schedules < 5_000, "the tree came to its end"
    assert not campaign.exhausted


def test_an_error_in_a_users_driver_is_one_line_with_its_place(tmp_path, capsys) -> None:
    file = tmp_path / "broken.py"
    file.write_text(
        "from mshv_async.driver import V6\n"
        "class Broken(V6):\n"
        "    async def region_interval_invalidate(self, mni, range, cur_seq):\n"
        "        return undefined_name\n"
    )
    out = tmp_path / "out"
    args = ["explore", "litmus/one-page", "--driver", f"{file}:Broken", "--out", str(out)]
    assert main(args) == 2
    assert f"{file}:4: NameError" in capsys.readouterr().err
