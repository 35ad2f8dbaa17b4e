"""Every catalogued bug is shown in half the steps or fewer, and stays the bug that it was.

Half of the steps of the run as it was found; and half of those in its columns by the rule for logs,
or no more than FEW_STEPS.

`python tests/explore/test_shrinking_of_bugs.py` prints the table. MSHV_ASYNC_LONG=1 tests all.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from test_bugs import BUDGET, BUGS

from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.results import FoundFinding, step_records
from mshv_async.log.report import report
from mshv_async.scenario import Scenario
from mshv_async.scenario.shipped import shipped_paths

LONG = os.environ.get("MSHV_ASYNC_LONG") == "1"

#: Fast ones of each kind: a race, a failure that was chosen, one thread alone, a deadlock.
FEW = ("A02", "D01", "D08", "C23")

#: What so few lines show is a race at its smallest: who holds what, who comes between.
FEW_STEPS = 11


class Failing(NamedTuple):
    """What is explored; ``all_of_them``: not only the first finding."""

    scenario: str
    driver: str
    all_of_them: bool = False


def failing() -> dict[str, Failing]:
    """Return the catalogued bugs, and by their names the scenarios that show them once more."""
    found = {name: Failing(bug.scenario, bug.driver, bug.among) for name, bug in BUGS.items()}
    known = {bug.scenario for bug in BUGS.values()}
    for name in shipped_paths():
        if name.startswith("bugs/") and name not in known:
            expect = Scenario.load(name).expect
            found[name] = Failing(name, next(d for d, v in expect.items() if v not in ((), CLEAN)))
    return found


CLEAN = ("clean",)
FAILING = failing()


class Row(NamedTuple):
    """One finding as it was found and as it is shown; ``shown`` are steps in the columns."""

    bug: str
    title: str
    preemptions: tuple[int, int]
    steps: tuple[int, int]
    shown: tuple[int, int]
    executions: int

    @property
    def halved(self) -> bool:
        """Whether it is shown in half the steps."""
        return 2 * self.shown[1] <= self.shown[0]


def rows(bug: str) -> list[Row]:
    """Explore a bug twice, without and with shrinking, and compare each of its findings."""
    known = FAILING[bug]
    plain, small = (
        {
            found.finding.title: found
            for found in explore_sync(
                Scenario.load(known.scenario),
                known.driver,
                strategy="pct",
                seed=1,
                schedules=100 if known.all_of_them else BUDGET,
                keep_going=known.all_of_them,
                shrink=shrink,
            ).findings
        }
        for shrink in (False, True)
    )
    assert plain.keys() == small.keys()
    assert all(plain[t].finding.verdict == small[t].finding.verdict for t in plain)
    return [_row(bug, plain[title], small[title]) for title in plain]


def _row(bug: str, before: FoundFinding, after: FoundFinding) -> Row:
    assert after.shrinking is not None
    return Row(
        bug,
        before.finding.title,
        (before.preemptions, after.preemptions),
        (before.steps, after.steps),
        (_shown(before, sliced=False), _shown(after, sliced=True)),
        after.shrinking.executions,
    )


def _shown(found: FoundFinding, *, sliced: bool) -> int:
    """Count the steps in a finding's columns, by the rule for logs unless ``sliced``."""
    steps = step_records(found.records)
    if not sliced:
        steps = [msgspec.structs.replace(record, depends=None) for record in steps]
    lines = report(found.finding, steps, width=200).split("\n")
    return sum(bool(re.match(r" *\d+[> ] +[a-z]", line)) for line in lines)


@pytest.mark.parametrize("bug", FAILING if LONG else FEW)
def test_a_bug_is_shown_in_half_the_steps(bug):
    for row in rows(bug):
        assert row.preemptions[1] <= row.preemptions[0]
        assert 2 * row.shown[1] <= row.steps[0], row
        assert row.halved or row.shown[1] <= FEW_STEPS, row


def main() -> None:
    """Print the table of all bugs."""
    sys.stdout.write("bug   preemptions        steps        shown  executions  title\n")
    seen: set[tuple[str, str]] = set()
    for bug, what in FAILING.items():
        for row in rows(bug):
            if (key := (what.scenario, row.title)) in seen:
                continue
            seen.add(key)
            pairs = (f"{a:5} -> {b:<4}" for a, b in (row.preemptions, row.steps, row.shown))
            note = "" if row.halved else "  (not halved)"
            line = f"{bug:4} {' '.join(pairs)} {row.executions:10}  {row.title}{note}"
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
