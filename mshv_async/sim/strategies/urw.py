"""urw: a random walk weighted by the work that each thread still has to do.

Zhao, Wolff, Mathur, Roychoudhury: Selectively Uniform Concurrency Testing, ASPLOS 2025. A plain
random walk lets a short thread run among the first steps of a long one nearly always. Choosing
each thread with a probability in proportion to its remaining steps makes all interleavings of
threads that do not wait equally likely.

Departures from the paper: no set of interesting events is asked for, all steps count; the work of
a thread is what it did in one probing run, the first, which is a plain random walk; a thread that
has outlived its estimate, or that the probe did not have, counts as having one step left. Data
choices are benign half of the time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.thread import Thread


class Urw:
    """Weights by thread name; execution ``i`` depends on the seed, ``i`` and the probing run."""

    exhaustive = False
    prefix = 0
    suspended = False
    records = False
    probes = 1

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._work: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._seen = 0
        self._probe: Runtime | None = None

    def begin(self, execution: int) -> bool:
        """Seed the execution; after the first, learn what each thread did in it."""
        if execution == 0:
            self._work = {}
        elif self._probe is not None:
            self._work = _steps_by_name(self._probe)
            self._probe = None
        self._rng = random.Random((self._seed << 40) ^ execution)
        self._left = dict(self._work)
        self._seen = 0
        return True

    def pick(self, enabled: Sequence[Thread], current: Thread | None) -> int:
        """Pick in proportion to the remaining work."""
        del current
        rt = enabled[0].rt
        if not self._work:
            self._probe = rt
            return int(self._rng.random() * len(enabled))
        left = self._left
        for tid, _ in rt.trace[self._seen :]:
            name = rt.all_threads[tid].name
            left[name] = left.get(name, 1) - 1
        self._seen = len(rt.trace)
        weights = [max(left.get(thread.name, 1), 1) for thread in enabled]
        at = self._rng.random() * sum(weights)
        for index, weight in enumerate(weights):
            at -= weight
            if at < 0:
                return index
        return len(enabled) - 1

    def value(self, label: str, bound: int) -> int:
        """Pick the benign value half of the time, else uniformly."""
        del label
        if self._rng.random() < 0.5:
            return 0
        return int(self._rng.random() * bound)


def _steps_by_name(rt: Runtime) -> dict[str, int]:
    steps: dict[str, int] = {}
    for tid, _ in rt.trace:
        name = rt.all_threads[tid].name
        steps[name] = steps.get(name, 0) + 1
    return steps
