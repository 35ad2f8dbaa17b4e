"""Several processes find what one finds, to the last count; whatever befalls them, it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from campaigns import ENVIRONMENT, UNMAP, command, told

from mshv_async.cli import main
from mshv_async.driver import V6, DriverError, Fix1
from mshv_async.explore.campaign import Stop, explore_sync
from mshv_async.explore.catalogue import StrategyError
from mshv_async.explore.results import CampaignError
from mshv_async.explore.workers import ATTEMPTS
from mshv_async.scenario import Scenario
from mshv_async.sim.current import current_thread

if TYPE_CHECKING:
    from mshv_async.explore.results import CampaignResult

PAGE = Scenario.load("litmus/one-page")


@pytest.fixture(scope="module")
def all_of_them() -> CampaignResult:
    return explore_sync(UNMAP, "v6", strategy="portfolio", schedules=200, keep_going=True)


def test_two_workers_find_and_count_the_same(all_of_them: CampaignResult) -> None:
    two = explore_sync(UNMAP, "v6", strategy="portfolio", schedules=200, keep_going=True, workers=2)
    assert sum(found.count for found in two.findings) > 3
    assert told(two) == told(all_of_them)


@pytest.mark.parametrize("strategy", ["pct", "urw", "random"])
def test_three_workers_stop_at_the_same_first_failure(strategy: str) -> None:
    one, three = (
        explore_sync(UNMAP, "v6", strategy=strategy, seed=5, schedules=200, workers=n)
        for n in (1, 3)
    )
    assert one.findings[0].first_schedule == one.schedules
    assert told(three) == told(one)


@pytest.mark.parametrize("strategy", ["dfs", "stateful"])
def test_an_exhaustive_strategy_is_not_divided(strategy: str) -> None:
    with pytest.raises(StrategyError, match=f"^--workers 2: strategy {strategy} needs"):
        explore_sync(UNMAP, "v6", strategy=strategy, workers=2)


def test_a_class_of_this_module_is_imported_by_the_workers() -> None:
    one, two = (
        explore_sync(UNMAP, Unchanged, schedules=200, strategy="random", workers=n) for n in (1, 2)
    )
    assert told(two) == told(one)


class Unchanged(V6):
    """As v6, from a module."""


def test_a_class_that_workers_cannot_import_is_refused_in_a_line() -> None:
    class Local(V6):
        pass

    with pytest.raises(DriverError) as refused:
        explore_sync(UNMAP, Local, workers=2)
    assert "a worker process cannot import it" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_users_file_is_loaded_from_its_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from mshv_async.driver import V6\nclass Mine(V6):\n    '''As v6.'''\n")
    spec = f"{file}:Mine"
    one, two = (explore_sync(UNMAP, spec, schedules=200, workers=n) for n in (1, 2))
    assert told(two) == told(one)


def test_an_error_in_a_worker_ends_the_campaign_where_one_process_would() -> None:
    one, two = (
        explore_sync(PAGE, RaisesSometimes, schedules=300, strategy="random", workers=n)
        for n in (1, 2)
    )
    assert isinstance(one.error, DriverError)
    assert "ZeroDivisionError" in str(one.error)
    assert str(two.error) == str(one.error)
    assert 0 < one.schedules < 300
    assert told(two) == told(one)


class RaisesSometimes(Fix1):
    """A driver with an error of its own, in one of a hundred schedules."""

    async def region_range_fault(self, region: Any, page_offset: int, page_count: int) -> int:
        tape = current_thread.get().rt.tape
        if sum(place * value for place, (_, value, _) in enumerate(tape)) % 101 == 7:
            raise ZeroDivisionError
        return await super().region_range_fault(region, page_offset, page_count)


def started_by(pid: int) -> list[int]:
    """Return the processes below one, by what the kernel says."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found += [int(stat.parent.name), *started_by(int(stat.parent.name))]
    return found


def workers_of(pid: int) -> list[int]:
    """Return the processes that a fork server started for a process."""
    return [p for server in started_by(pid) for p in started_by(server)]


LONG = ["explore", "litmus/one-page", "--driver", "fix1", "--schedules", "10000000"]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    options = ["--workers", "2", "--out", "out"]
    return command(*LONG, *options, *more, cwd=folder, start_new_session=True)


def wait_for_workers(process: subprocess.Popen[str], count: int = 2) -> list[int]:
    for _ in range(600):
        found = workers_of(process.pid)
        if len(found) >= count:
            time.sleep(0.5)
            return found
        time.sleep(0.05)
    raise AssertionError("no workers came")


def gone(pids: list[int]) -> bool:
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_the_whole_group_keeps_what_was_played(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = start(tmp_path, "--json")
    children = [*wait_for_workers(process), *started_by(process.pid)]
    os.killpg(process.pid, number)  # as a terminal and `timeout` do
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "mshv-async: interrupted\n")
    outcome = msgspec.json.decode(out)
    assert outcome["interrupted"]
    assert outcome["schedules"] > 0
    assert gone(children)


def test_workers_do_not_outlive_a_campaign_that_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path)
    children = [*wait_for_workers(process), *started_by(process.pid)]
    process.kill()
    process.communicate(timeout=60)
    assert gone(children)


def test_the_batch_of_a_worker_that_is_killed_is_played_again(all_of_them: CampaignResult) -> None:
    done = threading.Event()

    def kill_one() -> None:
        while not done.is_set():
            for pid in workers_of(os.getpid())[:1]:
                time.sleep(0.2)
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    two = explore_sync(UNMAP, "v6", strategy="portfolio", schedules=200, keep_going=True, workers=2)
    done.set()
    killer.join()
    assert told(two) == told(all_of_them)


class Dies(V6):
    """Ends its process."""

    async def region_range_fault(self, region: Any, page_offset: int, page_count: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


def test_workers_that_die_again_and_again_are_an_error_in_a_line() -> None:
    with pytest.raises(CampaignError) as failed:
        explore_sync(UNMAP, Dies, workers=2)
    assert f"a worker process died {ATTEMPTS} times" in str(failed.value)
    assert "executions 1 to " in str(failed.value)


def test_stop_and_time_end_all_workers() -> None:
    stop = Stop()
    progress: list[tuple[int, int, int]] = []

    def watch(*figures: int) -> None:
        progress.append(figures)  # type: ignore[arg-type]
        if figures[0] > 20:
            stop()

    campaign = explore_sync(
        UNMAP, "fix1", schedules=10_000_000, workers=2, stop=stop, progress=watch
    )
    assert campaign.interrupted
    assert campaign.schedules >= 20
    assert [p[0] for p in progress] == sorted(p[0] for p in progress)
    timed = explore_sync(UNMAP, "fix1", schedules=10_000_000, workers=2, seconds=0.5)
    assert (timed.interrupted, timed.schedules > 0) == (False, True)


def test_a_worker_imports_nothing_of_the_command_line(tmp_path: Path, capfd: Any) -> None:
    file = tmp_path / "tells.py"
    file.write_text(
        "import sys\n"
        "from mshv_async.driver import V6\n"
        "class Tells(V6):\n"
        "    async def region_range_fault(self, region, page_offset, page_count):\n"
        "        loaded = [m for m in ('typer', 'rich', 'click') if m in sys.modules]\n"
        "        main = vars(sys.modules['__main__']).get('__file__')\n"
        "        raise RuntimeError(f'main {main} {loaded}')\n"
    )
    command = ["explore", "litmus/one-page", "--driver", f"{file}:Tells", "--workers", "2"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "RuntimeError: main None []" in capfd.readouterr().err


SCRIPT = """\
import asyncio
import mshv_async
from mshv_async.driver import V6

class Mine(V6):
    "As v6."

async def search():
    options = {"strategy": "random", "schedules": 150, "keep_going": True, "shrink": False}
    found = [
        await mshv_async.explore("bugs/unmap-during-fault", Mine, workers=n, **options)
        for n in (1, 2)
    ]
    one, two = ([(f.title, f.count, f.first_schedule) for f in o.findings] for o in found)
    print(one == two, len(one) > 0, found[1].workers)

if __name__ == "__main__":
    asyncio.run(search())
"""


def run_script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "search.py").write_text(text)
    return subprocess.run(
        [sys.executable, "search.py"],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_class_of_a_script_is_made_again_in_the_workers(tmp_path: Path) -> None:
    done = run_script(tmp_path, SCRIPT)
    assert (done.stdout, done.stderr) == ("True True 2\n", "")


def test_a_script_that_starts_when_it_is_loaded_is_told_so(tmp_path: Path) -> None:
    done = run_script(tmp_path, SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    assert "DriverError" in done.stderr
    assert "loads the file again: keep what it starts under `if __name__" in done.stderr
