"""Users check their own tests with a strict type checker; the package has to hold that out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mshv_async

USERS = """\
import anyio
import pytest

from mshv_async import Outcome, Scenario, Verdict, World, explore, explore_sync, replay, run
from mshv_async.driver import V6, MmuIntervalNotifier, MmuNotifierRange, Seq


class Mine(V6):
    async def region_interval_invalidate(
        self, mni: MmuIntervalNotifier, range: MmuNotifierRange, cur_seq: Seq
    ) -> bool:
        return await super().region_interval_invalidate(mni, range, cur_seq)


@pytest.mark.mshv("litmus/one-page", driver=Mine, seeds=range(2))
async def test_it(world: World) -> None:
    async with anyio.create_task_group() as tg:
        tg.start_soon(world.vp(0).write, 0x200, "a")
        tg.start_soon(world.host.madvise_dontneed, 0x200, 8)
    value: str | int = await world.vp(0).read(0x200)
    status: int = await world.vmm.map(0x300, 2, flags=["writable"])
    assert value == 0 or status == 0


async def test_search() -> None:
    outcome: Outcome = await explore(Scenario.load("litmus/one-page"), driver=Mine, schedules=2)
    assert outcome.verdict is Verdict.CLEAN, outcome.report()
    again = await replay(outcome.repros[0], driver="v6")
    assert again.clean and (await run("litmus/one-page")).clean
    explore_sync("litmus/one-page", Mine)
"""

WRONG = """\
from mshv_async import explore_sync

explore_sync("litmus/one-page", driver=7)
"""


def mypy(folder: Path, text: str) -> tuple[int, str]:
    (folder / "users.py").write_text(text)
    source = str(Path(mshv_async.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "users.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"MYPYPATH": ""} | {"PYTHONPATH": source},
    )
    return done.returncode, done.stdout + done.stderr


def test_a_users_tests_pass_a_strict_type_checker(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    assert (Path(mshv_async.__file__).parent / "py.typed").exists()
    assert mypy(tmp_path, USERS) == (0, "Success: no issues found in 1 source file\n")
    status, out = mypy(tmp_path, WRONG)
    assert status == 1
    assert 'Argument "driver" to "explore_sync" has incompatible type "int"' in out
