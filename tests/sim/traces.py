"""Which executions are equivalent: their normal form, from the footprints of their steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.sim.accesses import conflict
from mshv_async.sim.strategies import Dfs, Dpor

if TYPE_CHECKING:
    from mshv_async.sim import Runtime

Event = tuple[str, str, tuple[int, ...]]
"""A thread's name, the operation that its step begins with, and the values it chose."""


class RecordingDfs(Dfs):
    """dfs whose executions have footprints."""

    records = True


class RecordingDpor(Dpor):
    """dpor that records the steps that it repeats as well."""

    def _enter(self, rt: Runtime) -> Runtime:
        self._rt = rt
        return rt


def normal_form(rt: Runtime) -> tuple[tuple[Event, ...], ...]:
    """Return the Foata normal form: layers of steps none of which comes before another.

    Two executions have the same one if one comes from the other by letting neighbours change
    places that do not conflict: they are one Mazurkiewicz trace. Nothing of the search is used.
    """
    assert rt.recorder is not None
    values: dict[int, list[int]] = {}
    for step, decision in rt.choices:
        values.setdefault(step - 1, []).append(decision.value)
    layers: list[list[Event]] = []
    depths: list[int] = []
    steps = rt.recorder.steps
    for index, step in enumerate(steps):
        parent = rt.recorder.parents.get(step.tid)
        depth = 0
        for before, other in enumerate(steps[:index]):
            if depths[before] >= depth and (
                other.tid == step.tid or before == parent or conflict(other, step)
            ):
                depth = depths[before] + 1
        depths.append(depth)
        if depth == len(layers):
            layers.append([])
        name = rt.all_threads[step.tid].name
        layers[depth].append((name, step.op.line(), tuple(values.get(index, ()))))
    return tuple(tuple(sorted(layer)) for layer in layers)
