"""A run depends on its decisions alone: the same ones give the same digest anywhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import mshv_async
from mshv_async.cli import main
from mshv_async.explore import load_repro, save_repro
from mshv_async.explore.campaign import explore_sync
from mshv_async.scenario import Scenario

ENV = os.environ | {
    "PYTHONPATH": str(Path(mshv_async.__file__).parent.parent),
    "PYTHONHASHSEED": "12345",
}

#: The campaigns that the repros are from: scenario, driver, seeds, schedules at most of each.
CAMPAIGNS = [
    ("bugs/callback-map-failure", "v6", 12, 100),
    ("bugs/callback-map-failure", "fix1", 10, 200),
    ("bugs/oom-during-fault", "v6", 10, 400),
    ("bugs/write-to-read-only-region", "v6", 6, 1),
    ("bugs/unmap-during-fault", "v6", 12, 200),
    ("bugs/map-during-touch", "v6", 10, 400),
    ("bugs/map-while-host-discards", "v6", 12, 400),
    ("bugs/map-while-host-discards", "v9", 1, 1_000),
    ("bugs/map-failure-then-discard", "v6", 15, 100),
    ("bugs/map-enclosing-region", "v6", 15, 10),
]

VERDICTS = {
    "lost-unlock",
    "oops",
    "livelock",
    "use-after-free",
    "guest-killed",
    "invariant:region-ownership",
    "invariant:stale-mapping",
    "invariant:notifier-sequence",
}

REPLAY_ALL = """
import json, sys
from mshv_async.explore import load_repro
from mshv_async.explore.single import replay_repro
replays = {}
for path in sys.argv[1:]:
    replay = replay_repro(load_repro(path), False)
    replays[path] = [replay.matches, replay.run.digest, replay.run.verdict, replay.run.title]
print(json.dumps(replays))
"""


@pytest.fixture(scope="module")
def repros(tmp_path_factory):
    """100 repros as files, of many seeds and of all bug scenarios."""
    folder = tmp_path_factory.mktemp("repros")
    found = []
    for name, driver, seeds, schedules in CAMPAIGNS:
        scenario = Scenario.load(name)
        for seed in range(1, seeds + 1):
            campaign = explore_sync(scenario, driver, seed=seed, schedules=schedules)
            for finding in campaign.findings:
                found.append(folder / f"{len(found)}.repro.json")
                save_repro(found[-1], finding.repro)
    return found


@pytest.fixture(scope="module")
def one_of_each(repros):
    """The first repro of each scenario and driver."""
    first = {}
    for path in repros:
        repro = load_repro(path)
        first.setdefault((repro.scenario_name, repro.driver), path)
    return list(first.values())


def replayed(capsys, path):
    """Replay on the command line; return its exit status and the step where it departs."""
    status = main(["replay", str(path)])
    said = re.search(r"^replay: departs at step (\d+): .+", capsys.readouterr().out, re.MULTILINE)
    return status, int(said[1]) if said else None


def edited(path, tmp_path, **changes):
    """Write a repro with other contents; return its path."""
    other = tmp_path / path.name
    save_repro(other, msgspec.structs.replace(load_repro(path), **changes))
    return other


def test_a_hundred_repros_replay_to_their_digests_in_another_process(repros):
    assert len(repros) >= 100
    recorded = {str(path): load_repro(path) for path in repros}
    assert {repro.verdict for repro in recorded.values()} >= VERDICTS
    done = subprocess.run(
        [sys.executable, "-c", REPLAY_ALL, *recorded],
        capture_output=True, text=True, check=False, env=ENV,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        path: [True, repro.digest, repro.verdict, repro.title] for path, repro in recorded.items()
    }


def test_every_repro_replays_on_the_command_line_as_it_was_recorded(one_of_each, capsys):
    for path in one_of_each:
        assert replayed(capsys, path) == (0, None)


def test_another_decision_departs_at_a_step_and_says_so(one_of_each, tmp_path, capsys):
    for path in one_of_each:
        repro = load_repro(path)
        free = [n for n, decision in enumerate(repro.decisions) if decision.bound > 1]
        for at in (free[:1] + free[len(free) // 2 :][:1]) if free else []:
            decisions = list(repro.decisions)
            old = decisions[at]
            decisions[at] = msgspec.structs.replace(old, value=(old.value + 1) % old.bound)
            status, step = replayed(capsys, edited(path, tmp_path, decisions=decisions))
            assert status == 1, repro.title
            assert 1 <= step <= len(repro.steps.index) + 1


def test_a_decision_that_is_missing_too_many_or_impossible_departs(one_of_each, tmp_path, capsys):
    repro = load_repro(one_of_each[0])
    decisions = repro.decisions
    ends = len(repro.steps.index)
    one = decisions[0]
    for changed in (
        decisions[1:],
        [*decisions, one],
        [msgspec.structs.replace(one, value=one.bound), *decisions[1:]],
        [msgspec.structs.replace(one, bound=one.bound + 1), *decisions[1:]],
        [msgspec.structs.replace(one, label="other"), *decisions[1:]],
    ):
        status, step = replayed(capsys, edited(one_of_each[0], tmp_path, decisions=changed))
        assert status == 1
        assert 1 <= step <= ends


@pytest.mark.parametrize(
    ("old", "new", "acts"),
    [
        ("write 0x200", "read 0x200", " guest.write "),
        ("madvise dontneed 0x200 1", "madvise dontneed 0x201 1", "host notifier.start "),
        ('program = ["write 0x200"', 'program = ["write 0x201", "write 0x200"', " guest.write "),
        ("map 0x200 8KiB", "map 0x200 4KiB", "vmm vmm.find_vma "),
    ],
)
def test_a_repro_whose_scenario_was_edited_departs(one_of_each, tmp_path, capsys, old, new, acts):
    tried = 0
    for path in one_of_each:
        repro = load_repro(path)
        if old in repro.scenario and any(acts in line for line in repro.steps.table):
            changed = edited(path, tmp_path, scenario=repro.scenario.replace(old, new))
            status, step = replayed(capsys, changed)
            assert status == 1, repro.title
            assert 1 <= step <= len(repro.steps.index) + 1
            tried += 1
    assert tried


@pytest.mark.parametrize("name", ["litmus/two-vps-one-reclaimer", "bugs/oom-during-fault"])
def test_a_timed_run_is_its_seed(name, capsys):
    def run_digest(seed, *, elsewhere=False):
        command = ["run", name, "--driver", "fix1", "--seed", str(seed), "--json"]
        if elsewhere:
            program = [sys.executable, "-m", "mshv_async.cli", *command]
            out = subprocess.run(
                program, capture_output=True, text=True, check=True, env=ENV
            ).stdout
        else:
            assert main(command) == 0
            out = capsys.readouterr().out
        return json.loads(out)["digest"]

    assert run_digest(1) == run_digest(1) == run_digest(1, elsewhere=True)
    assert len({run_digest(seed) for seed in range(1, 6)}) > 1
