"""What of the scenario format the model does not have: refused when a world is to be built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mshv_async.scenario.errors import ScenarioError, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mshv_async.scenario.loading import Scenario

_NOT_MODELLED: Final = ("shared", "file")
_ALLOWED: Final = "anon, thp, hugetlb-2m, hugetlb-1g or device: shared memory is not modelled"
_NEEDS_THP: Final = 'host.thp = "madvise" or "always" beside it: with "never" there are none'


def check_modelled(scenario: Scenario) -> None:
    """Raise ``ScenarioError`` for the first thing that the format knows and the model does not."""
    for key, backing in _backings(scenario):
        if backing in _NOT_MODELLED:
            raise ScenarioError(scenario.name, key, quoted(backing), _ALLOWED)
        if backing == "thp" and scenario.host.thp == "never":
            raise ScenarioError(scenario.name, key, quoted(backing), _NEEDS_THP)
    if scenario.partition.encrypted:
        allowed = "false: encrypted partitions are not modelled"
        raise ScenarioError(scenario.name, "partition.encrypted", "true", allowed)


def _backings(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Yield the backing of each piece of memory, with the dotted key that asks for it."""
    for index, region in enumerate(scenario.region):
        for run in region.backing_runs:
            yield f"region[{index}].backing", run.backing
    for thread in scenario.threads:
        for op in thread.program.operations:
            yield f"{thread.key}.program", op.backing
