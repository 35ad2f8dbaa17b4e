"""The main job as a user types it: a bug found, explained in columns, replayed elsewhere."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mshv_async
from mshv_async.log.columns import WIDTH

SCENARIO = "bugs/callback-map-failure"
ENV = os.environ | {"PYTHONPATH": str(Path(mshv_async.__file__).parent.parent)}


def mshv(*args, **env):
    command = [sys.executable, "-m", "mshv_async.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENV | env)


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explored")
    done = mshv("explore", SCENARIO, "--schedules", 2000, "--out", folder)
    return done, folder


@pytest.fixture
def repro(explored):
    return next(explored[1].glob("1-*.repro.json"))


def test_a_bug_of_v6_is_found_and_explained_in_columns(explored):
    done, _ = explored
    assert (done.returncode, done.stderr) == (0, "")
    title, *lines = done.stdout.splitlines()
    assert title == "lost-unlock: region_interval_invalidate (region.mutex)"
    start = next(n for n, line in enumerate(lines) if line.lstrip().startswith("---"))
    end = lines.index("", start)
    assert {"host", "vp0", "vp1"} >= set(lines[start - 1].split())
    assert all(len(line) <= WIDTH for line in lines[start - 1 : end])
    assert "outcome: lost-unlock, as expected" in lines


def test_it_replays_to_the_same_digest_in_another_process(repro):
    for seed in ("1", "77"):
        done = mshv("replay", repro, "--json", PYTHONHASHSEED=seed)
        data = json.loads(done.stdout)
        assert (done.returncode, data["matches"]) == (0, True)
        assert data["digest"] == json.loads(repro.read_text())["digest"]


def test_a_repro_whose_decisions_were_edited_says_at_which_step_it_departs(repro, tmp_path):
    data = json.loads(repro.read_text())
    at = next(n for n, decision in enumerate(data["decisions"]) if decision[2] > 1)
    label, value, bound = data["decisions"][at]
    data["decisions"][at] = [label, (value + 1) % bound, bound]
    edited = tmp_path / "edited.repro.json"
    edited.write_text(json.dumps(data))
    done = mshv("replay", edited)
    assert done.returncode == 1
    assert "replay: departs at step " in done.stdout


def test_a_replay_can_be_logged_and_analysed(repro, tmp_path):
    log = tmp_path / "replay.jsonl"
    assert mshv("replay", repro, "--log", log).returncode == 0
    analysis = json.loads(mshv("analyze", log, "--json").stdout)
    assert analysis["timed"] is False
    assert analysis["verdict"]["verdict"] == "lost-unlock"
    assert analysis["steps"] == len(json.loads(repro.read_text())["steps"]["index"])


def test_a_timed_run_is_logged_with_fault_latencies_and_lock_times(tmp_path):
    log = tmp_path / "run.jsonl"
    args = ["litmus/two-vps-one-reclaimer", "--driver", "fix1", "--log", log]
    assert mshv("run", *args).returncode == 0
    analysis = json.loads(mshv("analyze", log, "--json").stdout)
    assert analysis["timed"] is True
    assert analysis["faults"]["count"] > 0
    assert analysis["faults"]["latency"]["p50_ns"] > 0
    assert {"region.mutex", "mmap_lock"} <= {lock["lock_class"] for lock in analysis["locks"]}
    assert analysis["verdict"]["verdict"] == "clean"


def interrupted(args, times, folder, ready, number=signal.SIGINT):
    """Run a command in a folder and, once a file is there, send it so many signals, a second apart.

    By default they are ^C.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "mshv_async.cli", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
        cwd=folder,
        # A shell that runs the tests in the background has the signal ignored, and so would we.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        try:
            while not ready.exists() and process.poll() is None:
                time.sleep(0.1)
            for _ in range(times):
                time.sleep(1)
                process.send_signal(number)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "timeout"])
def test_a_stopped_search_keeps_and_reports_what_was_found_so_far(tmp_path, number):
    args = ["explore", "litmus/one-page", "--driver", "fix1", "--schedules", "100000000"]
    out = tmp_path / "out"
    status, out, err = interrupted([*args, "--out", str(out)], 1, tmp_path, out, number)
    assert (status, err) == (130, "mshv-async: interrupted\n")
    assert "interrupted: this is what was found so far" in out
    outcome = json.loads((tmp_path / "out" / "outcome.json").read_text())
    assert outcome["schedules"] > 0
    assert outcome["interrupted"] is True


SPINNING = """\
from pathlib import Path

from mshv_async.driver import V6


class Spins(V6):
    async def region_interval_invalidate(self, mni, range, cur_seq):
        Path("spinning").touch()
        while True:
            pass
"""


@pytest.mark.parametrize(("command", "times"), [("explore", 2), ("run", 1)])
def test_ctrl_c_ends_a_driver_that_spins(command, times, tmp_path):
    (tmp_path / "spins.py").write_text(SPINNING)
    args = [command, "litmus/one-page", "--driver", "spins.py:Spins"]
    status, _, err = interrupted(args, times, tmp_path, ready=tmp_path / "spinning")
    assert (status, err) == (130, "mshv-async: interrupted\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_loses_its_text_and_nothing_else(tmp_path, closed):
    command = f"{sys.executable} -m mshv_async.cli run litmus/one-page --log run.jsonl {closed}"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=ENV, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "run.jsonl").read_text().startswith('{"t":')


def test_a_reader_that_has_seen_enough_ends_the_program_quietly(tmp_path):
    command = (
        f"{sys.executable} -m mshv_async.cli explore bugs/unmap-during-fault --out out --seed 6"
    )
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; {command} | true"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=ENV,
    )
    assert done.stdout == "use-after-free: region_hmm_fault_and_lock / region_free (region.mni)\n"
    assert done.stderr == ""
