"""An outcome is called expected by the same rule everywhere."""

import pytest

from mshv_async.oracle import invariant_list
from mshv_async.scenario import INVARIANTS, as_expected, expected_for, normalised_driver
from mshv_async.scenario.errors import Misfit


@pytest.mark.parametrize(
    ("expected", "found", "verdict"),
    [
        ([], [], True),
        (["clean"], [], True),
        (["clean"], ["clean"], True),
        ([], ["oops"], False),
        (["oops"], [], False),
        (["oops"], ["oops", "oops"], True),
        (["oops", "livelock"], ["livelock"], True),
        (["oops"], ["oops", "livelock"], False),
        (["oops"], ["livelock"], False),
    ],
)
def test_as_expected(expected, found, verdict):
    assert as_expected(expected, found) is verdict


def test_patches_in_another_order_are_the_same_driver():
    expect = {"v6+unlock-on-failure+check-access": ("livelock",), "v7": ()}
    assert expected_for(expect, "v6+check-access+unlock-on-failure") == ("livelock",)
    assert expected_for(expect, "v6") == expected_for(expect, "v7") == ("clean",)


def test_a_users_file_is_known_without_its_folder():
    assert normalised_driver("./fixes/my_driver.py:SetSeqLate") == "my_driver.py:SetSeqLate"


@pytest.mark.parametrize("spec", ["", "V6", "v6+", "+v6", "v6+Check", "v6 +a", "x.py", "x.py:1"])
def test_what_is_no_driver_is_refused(spec):
    with pytest.raises(Misfit, match="a profile"):
        normalised_driver(spec)


def test_whatever_the_oracle_finds_can_be_expected():
    assert {name for name, _ in invariant_list()} <= set(INVARIANTS)
