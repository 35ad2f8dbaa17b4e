"""A scenario that needs what the model lacks is refused, not run as something else."""

from __future__ import annotations

import pytest

from mshv_async.scenario import Scenario, ScenarioError
from mshv_async.scenario.modelled import check_modelled

BASE = "summary = 's'\n[[vp]]\nprogram = ['read 0x200']\n"
REGION = "[[region]]\ngfn = 0x200\nsize = '4MiB'\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (BASE + REGION + "backing = 'thp'\n", "region[0].backing"),
        (BASE + REGION + "[host]\nthp = 'always'\n", "host.thp"),
        (BASE + REGION + "[host]\nhugetlb_2m = 1\n", "host.hugetlb_2m"),
        (BASE + REGION + "[partition]\nencrypted = true\n", "partition.encrypted"),
        (
            BASE + REGION + "[[thread]]\nkind = 'vmm'\nprogram = ['map 0x1000 2MiB backing=thp']\n",
            "thread[0].program",
        ),
    ],
)
def test_what_is_not_modelled_is_refused(text: str, key: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        check_modelled(Scenario.parse(text, "s"))
    assert caught.value.key == key
    assert "not modelled" in str(caught.value)


def test_anonymous_memory_is_accepted() -> None:
    check_modelled(Scenario.parse(BASE + REGION, "s"))
