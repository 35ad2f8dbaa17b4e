"""A user's driver whose method would silently do nothing is refused."""

from __future__ import annotations

import pytest

from mshv_async.driver import DriverError, resolve_driver


def driver(tmp_path, method: str):
    file = tmp_path / "mine.py"
    file.write_text(
        f"from mshv_async.driver import V6\nclass Mine(V6):\n    {method}\n        return True\n"
    )
    return resolve_driver(f"{file}:Mine")


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("async def region_interval_invalidat(self, mni, range, cur_seq):", "mean region_interval"),
        ("def region_interval_invalidate(self, mni, range, cur_seq):", "async def"),
    ],
)
def test_a_method_that_overrides_nothing_or_cannot_be_awaited_is_refused(tmp_path, method, what):
    with pytest.raises(DriverError, match=what):
        driver(tmp_path, method)


@pytest.mark.parametrize(
    "method",
    [
        "async def region_interval_invalidate(self, mni, range, cur_seq):",
        "def helper_of_mine(self):",
    ],
)
def test_methods_that_mean_something_are_taken(tmp_path, method):
    assert driver(tmp_path, method).base == "v6"
