"""Costs of timed mode go by labels: every label that there is can be named, and no other."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mshv_async
from mshv_async.hyperv import SlatRules
from mshv_async.hyperv.codes import CALL_LABELS
from mshv_async.scenario.errors import Misfit
from mshv_async.scenario.labels import FAMILIES, check_label
from mshv_async.scenario.model import Hypervisor
from mshv_async.sim.costs import COSTS_NS

if TYPE_CHECKING:
    from collections.abc import Iterator

DECLARING = {"Op", "step", "point"}


def labels_in_the_source() -> Iterator[tuple[str, str]]:
    """Each label that a point is declared with, as far as it stands there as text."""
    for path in sorted(Path(mshv_async.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            label = node.args[0]
            if node.func.id in DECLARING and isinstance(label, ast.Constant):
                yield f"{path.name}:{node.lineno}", label.value


def test_every_point_of_the_model_can_be_given_a_cost() -> None:
    """A point that is new in the source has to be entered in scenario/labels.py."""
    unknown = []
    for place, label in labels_in_the_source():
        try:
            check_label(label)
        except Misfit:
            unknown.append(f"{place}: {label}")
    assert not unknown


@pytest.mark.parametrize("label", [*COSTS_NS, *FAMILIES, *CALL_LABELS.values(), "alloc.region"])
def test_a_label_or_its_beginning_is_known(label: str) -> None:
    check_label(label)


@pytest.mark.parametrize(
    "label", ["", "mutex.", "mutexes", "mutex.lock.it", "guest.raed", "hypercall.map_gpa.rep.x"]
)
def test_what_no_point_begins_with_is_refused(label: str) -> None:
    with pytest.raises(Misfit):
        check_label(label)


def test_the_switches_of_the_table_have_the_names_and_defaults_of_the_hypervisor() -> None:
    default = Hypervisor()
    assert SlatRules(*(getattr(default, name) for name in SlatRules._fields)) == SlatRules()
