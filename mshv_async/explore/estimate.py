"""How many schedules there are: an estimate from random paths down the tree (Knuth 1975).

The mean over paths is right on average, but its spread is huge: most of the tree may hang on
branches that hardly any path takes, and then nearly every estimate is too low, some far too high.
So the paths are made in groups: given are the mean of all, the median of the groups' means, and the
lowest and highest of them. Where those lie orders of magnitude apart, only the orders count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, TypeAlias

from mshv_async.sim.strategies.descent import Descent

if TYPE_CHECKING:
    from typing import Any

    from mshv_async.explore.playing import Subject
    from mshv_async.sim import Stage

GROUPS = 8


@dataclass(frozen=True, slots=True)
class Estimate:
    """Executions that ``dfs`` would need: over all paths, and over groups of them.

    ``cut``: paths that ended at a bound of steps or in the fair tail, from where on the tree was
    not looked at; the estimate is then too low.
    """

    mean: float
    median: float
    low: float
    high: float
    descents: int
    cut: int

    def object(self) -> dict[str, Any]:
        """Return the object ``estimate`` of an outcome."""
        return asdict(self)

    def line(self) -> str:
        """Return what an outcome's text says."""
        return (
            f"estimate: dfs would need about {rounded(self.mean)} schedules "
            f"({self.descents:,} random paths, rather too few than too many; groups of them say "
            f"{rounded(self.low)} to {rounded(self.high)})"
        )


# Called once, from the exploring thread, when the estimate is known.
Expect: TypeAlias = Callable[[Estimate], None]


async def estimate_tree(
    subject: Subject,
    stage: Stage,
    descents: int = 128,
    seed: int = 1,
    preemptions: int | None = None,
) -> Estimate:
    """Estimate how many executions ``dfs`` needs, with its bound on preemptions if any.

    Plays ``descents`` executions, at least ``GROUPS``; the same ones for the same seed.
    """
    descents = max(descents, GROUPS)
    descent = Descent(seed, preemptions)
    leaves: list[float] = []
    cut = 0
    for number in range(descents):
        descent.begin(number)
        rt = await subject.play(stage, descent, seed=seed)
        leaves.append(descent.leaves)
        cut += rt.fair or rt.cut is not None
    means = [fmean(leaves[group::GROUPS]) for group in range(GROUPS)]
    return Estimate(fmean(leaves), median(means), min(means), max(means), descents, cut)


def rounded(number: float) -> str:
    """Return a number in words: in full while it is small, then as a power of ten."""
    return (
        f"{number:,.0f}" if number < 1e6 else f"{number:.0e}".replace("e+0", "e").replace("e+", "e")
    )
