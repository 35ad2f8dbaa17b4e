"""What of the scenario format the model does not have: refused when a world is to be built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.scenario.errors import ScenarioError, quoted

if TYPE_CHECKING:
    from mshv_async.scenario.loading import Scenario

_ONLY_ANON = '"anon": other memory is not modelled'


def check_modelled(scenario: Scenario) -> None:
    """Raise ``ScenarioError`` for the first thing that the format knows and the model does not."""
    for index, region in enumerate(scenario.region):
        for run in region.backing_runs:
            if run.backing != "anon":
                key = f"region[{index}].backing"
                raise ScenarioError(scenario.name, key, quoted(run.backing), _ONLY_ANON)
    for thread in scenario.threads:
        for op in thread.program.operations:
            if op.backing != "anon":
                key = f"{thread.key}.program"
                raise ScenarioError(scenario.name, key, quoted(op.backing), _ONLY_ANON)
    if scenario.host.thp != "never":
        allowed = '"never": huge pages are not modelled'
        raise ScenarioError(scenario.name, "host.thp", quoted(scenario.host.thp), allowed)
    if scenario.host.hugetlb_2m:
        allowed = "0: huge pages are not modelled"
        raise ScenarioError(
            scenario.name, "host.hugetlb_2m", str(scenario.host.hugetlb_2m), allowed
        )
    if scenario.partition.encrypted:
        allowed = "false: encrypted partitions are not modelled"
        raise ScenarioError(scenario.name, "partition.encrypted", "true", allowed)
