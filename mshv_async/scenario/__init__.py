"""Scenarios: what a TOML file says, loaded and checked, with programs and addresses resolved.

``Scenario.load`` and ``Scenario.parse`` are the doors; every error is a ``ScenarioError`` of one
line. The tables of a file are in ``model``, the operations of programs in ``operations``.
"""

from mshv_async.scenario.addresses import UADDR_BASE, Addresses, Placed
from mshv_async.scenario.errors import ScenarioError
from mshv_async.scenario.expect import (
    CLEAN,
    EXPECTABLE,
    INVARIANTS,
    VERDICTS,
    as_expected,
    expected_for,
    normalised_driver,
)
from mshv_async.scenario.loading import Scenario, ScenarioEntry, list_scenarios
from mshv_async.scenario.model import (
    BackingRun,
    Host,
    Hypervisor,
    Partition,
    ProcessSpec,
    Region,
    Situation,
    ThreadSpec,
    VpGroup,
    Workload,
)
from mshv_async.scenario.named import named_gfns, named_vpns
from mshv_async.scenario.operations import Operation
from mshv_async.scenario.programs import Line, Program
from mshv_async.scenario.quantities import GFN_LIMIT
from mshv_async.scenario.shipped import shipped_folder
from mshv_async.scenario.threads import ThreadPlan

__all__ = [
    "CLEAN",
    "EXPECTABLE",
    "GFN_LIMIT",
    "INVARIANTS",
    "UADDR_BASE",
    "VERDICTS",
    "Addresses",
    "BackingRun",
    "Host",
    "Hypervisor",
    "Line",
    "Operation",
    "Partition",
    "Placed",
    "ProcessSpec",
    "Program",
    "Region",
    "Scenario",
    "ScenarioEntry",
    "ScenarioError",
    "Situation",
    "ThreadPlan",
    "ThreadSpec",
    "VpGroup",
    "Workload",
    "as_expected",
    "expected_for",
    "list_scenarios",
    "named_gfns",
    "named_vpns",
    "normalised_driver",
    "shipped_folder",
]
