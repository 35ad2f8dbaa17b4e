"""How fast each strategy finds each bug: executions to the first failure.

    python tests/benchmarks/power.py [--seeds 20] [--cap 1000] [--rows D05,X01]
                                     [--strategies portfolio,pct] [--processes 2] [--json]

A row is a scenario of ``scenarios/bugs`` on a driver: those of tests/test_bugs.py, and for the
other scenarios the newest version that they expect to fail. A failure is an execution with the
row's verdict; other findings do not count. For each strategy it prints the median and the 90th
percentile over the seeds, ``>N`` where they are beyond the cap of N executions; last, the median
of the portfolio over the best median of a single strategy.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_bugs import BUGS

from mshv_async.driver import resolve_driver
from mshv_async.explore.catalogue import make_strategy
from mshv_async.explore.collecting import fewer_collections
from mshv_async.explore.playing import Subject
from mshv_async.scenario import Scenario
from mshv_async.scenario.shipped import shipped_paths
from mshv_async.sim import Stage, run_on_stage

STRATEGIES = ("random", "pct", "pos", "urw", "starve", "portfolio")


class Row(NamedTuple):
    """What is to be found where."""

    scenario: str
    driver: str
    verdict: str


def rows() -> dict[str, Row]:
    """Return the rows by bug."""
    found = {name: Row(b.scenario, b.driver, b.verdict) for name, b in BUGS.items()}
    known = {row.scenario for row in found.values()}
    for path in shipped_paths():
        if path.startswith("bugs/") and path not in known:
            scenario = Scenario.load(path)
            failing = [d for d in scenario.expect if scenario.expected(d) and "+" not in d]
            found[scenario.bugs[0]] = Row(path, failing[-1], scenario.expected(failing[-1])[0])
    return dict(sorted(found.items()))


def first_failure(row: Row, strategy_name: str, seed: int, cap: int) -> int | None:
    """Return the number of the first failing execution, from 1; None beyond the cap."""
    subject = Subject(Scenario.load(row.scenario), resolve_driver(row.driver))
    strategy = make_strategy(strategy_name, seed=seed)

    async def act(stage: Stage) -> int | None:
        for number in range(cap):
            strategy.begin(number)
            rt = await subject.play(stage, strategy, seed=seed)
            if rt.finding is not None and rt.finding.verdict == row.verdict:
                return number + 1
        return None

    with fewer_collections():
        return run_on_stage(act)


def quantile(found: list[int | None], share: float, cap: int) -> int:
    """Return that quantile; cap + 1 stands for all beyond the cap."""
    ordered = sorted(cap + 1 if number is None else number for number in found)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def shown(number: int, cap: int) -> str:
    """Return a number of executions in words."""
    return f">{cap}" if number > cap else str(number)


def main() -> None:
    """Measure and print."""
    known = rows()
    parser = argparse.ArgumentParser(description="executions to first failure")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cap", type=int, default=1_000)
    parser.add_argument("--rows", default=",".join(known))
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names, cap = options.strategies.split(","), options.cap
    started = time.monotonic()
    table: dict[str, dict[str, tuple[int, int]]] = {}
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        jobs = {
            (bug, name): [
                pool.submit(first_failure, known[bug], name, seed, cap)
                for seed in range(1, options.seeds + 1)
            ]
            for bug in options.rows.split(",")
            for name in names
        }
        if not options.json:
            print(f"{'':34}" + "".join(f"{name:>14}" for name in names) + "   of best")
        for bug in options.rows.split(","):
            cells = {}
            for name in names:
                found = [job.result() for job in jobs[bug, name]]
                cells[name] = (quantile(found, 0.5, cap), quantile(found, 0.9, cap))
            table[bug] = cells
            if not options.json:
                print(_line(bug, known[bug], cells, cap), flush=True)
    seconds = time.monotonic() - started
    if options.json:
        print(json.dumps({"seeds": options.seeds, "cap": cap, "seconds": seconds, "rows": table}))
    else:
        print(f"median and 90th percentile of {options.seeds} seeds, {seconds:.0f} s")


def _line(bug: str, row: Row, cells: dict[str, tuple[int, int]], cap: int) -> str:
    text = f"{bug} {row.scenario.removeprefix('bugs/')}"[:33]
    line = f"{text:34}"
    for median, late in cells.values():
        line += f"{shown(median, cap) + ' ' + shown(late, cap):>14}"
    singles = [median for name, (median, _) in cells.items() if name != "portfolio"]
    if "portfolio" in cells and singles:
        line += f"   {cells['portfolio'][0] / min(singles):.1f}"
    return line


if __name__ == "__main__":
    main()
