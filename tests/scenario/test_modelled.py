"""A scenario that needs what the model lacks is refused, not run as something else."""

from __future__ import annotations

import pytest

from mshv_async.scenario import Scenario, ScenarioError
from mshv_async.scenario.modelled import check_modelled

BASE = "summary = 's'\n[[vp]]\nprogram = ['read 0x200']\n"
REGION = "[[region]]\ngfn = 0x200\nsize = '4MiB'\n"
RUNS = "[{ backing = 'anon', pages = 512 }, { backing = 'file', pages = 512 }]"
MAP = "[[thread]]\nkind = 'vmm'\nprogram = ['map 0x1000 2MiB backing=thp']\n"


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        (BASE + REGION + "backing = 'shared'\n", "region[0].backing", "not modelled"),
        (BASE + REGION + f"backing = {RUNS}\n", "region[0].backing", "not modelled"),
        (BASE + REGION + "[partition]\nencrypted = true\n", "partition.encrypted", "not modelled"),
        (BASE + REGION + MAP.replace("thp", "file"), "thread[0].program", "not modelled"),
        (BASE + REGION + "backing = 'thp'\n", "region[0].backing", "host.thp"),
        (BASE + REGION + MAP, "thread[0].program", "host.thp"),
    ],
)
def test_what_is_not_modelled_is_refused(text: str, key: str, reason: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        check_modelled(Scenario.parse(text, "s"))
    assert caught.value.key == key
    assert reason in str(caught.value)


@pytest.mark.parametrize("backing", ["anon", "thp", "hugetlb-2m", "device"])
def test_other_memory_is_accepted(backing: str) -> None:
    host = "[host]\nthp = 'madvise'\nhugetlb_2m = 2\n"
    check_modelled(Scenario.parse(BASE + REGION + f"backing = '{backing}'\n" + MAP + host, "s"))
