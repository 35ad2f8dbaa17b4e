"""What a user's driver returns and the driver's own code cannot use is told in one line."""

from __future__ import annotations

import pytest

from mshv_async.driver import DriverError
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.entry import explore_sync as explore
from mshv_async.scenario import Scenario

RETURNS_NOTHING = """
from mshv_async.driver import V6

class ReturnsNothing(V6):
    async def vp_ioctl_run_vp(self, vp):
        return None
"""


def test_a_result_that_cannot_be_taken_apart_names_the_users_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(RETURNS_NOTHING)
    with pytest.raises(DriverError) as caught:
        explore_sync(Scenario.load("litmus/one-page"), f"{file}:ReturnsNothing", schedules=3)
    assert str(caught.value).startswith(f"{file}: a result that driver/partition.py:")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("nonsense", [None, 5, []])
def test_what_is_no_scenario_is_refused_in_a_sentence(nonsense):
    with pytest.raises(
        TypeError, match=r"scenario: found .*; allowed: a Scenario, a name or a path"
    ):
        explore(nonsense)
