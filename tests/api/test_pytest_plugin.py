"""A user's test file outside the project, run by pytest as the user would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mshv_async

SOURCE = str(Path(mshv_async.__file__).parent.parent)
# With CI or BUILD_NUMBER set pytest prints whole messages in its short summary too.
UNSET = {"PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"}

SCENARIO = """\
summary = "Two pages that the test drives"
[[region]]
gfn = 0x200
size = "8KiB"
[[vp]]
program = ["write 0x200"]
[[thread]]
kind = "host"
program = ["madvise dontneed 0x200 1"]
"""

USERS = """\
import anyio
import pytest

from mshv_async import World, explore
from mshv_async.driver import V6


class ForgetsToUnlock(V6):
    async def region_interval_invalidate(self, mni, range, cur_seq):
        await mni.region.mutex.lock()
        return True


@pytest.mark.mshv("two-pages.toml", driver="v6", seeds=range(3))
async def test_reads_follow_discards(world: World) -> None:
    async with anyio.create_task_group() as tg:
        tg.start_soon(world.vp(0).write, 0x200, "a")
        tg.start_soon(world.host.madvise_dontneed, 0x200, 2)
    assert await world.vp(0).read(0x200) in ("a", 0)


@pytest.mark.asyncio
async def test_my_driver_is_caught() -> None:
    outcome = await explore("two-pages.toml", driver=ForgetsToUnlock, schedules=100)
    assert outcome.verdict == "lost-unlock", outcome.report()
"""

PLAIN = """\
import asyncio
import pytest
from mshv_async.sim.loop import SimLoop

@pytest.mark.asyncio
async def test_plain(request):
    assert not isinstance(asyncio.get_running_loop(), SimLoop)
    await asyncio.get_running_loop().run_in_executor(None, len, "")
    assert request.node.name == "test_plain"
"""


def pytest_of_a_user(folder: Path, *args: str, mode: str = "strict") -> tuple[int, str]:
    """Run pytest in a folder, warnings being errors; return its status and output."""
    (folder / "two-pages.toml").write_text(SCENARIO)
    (folder / "pytest.ini").write_text(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
        "addopts = --strict-markers\nfilterwarnings = error\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in UNSET} | {"PYTHONPATH": SOURCE},
    )
    return done.returncode, done.stdout + done.stderr


def collected(folder: Path, text: str, *args: str, mode: str = "strict") -> tuple[int, str]:
    (folder / "test_users.py").write_text(text)
    return pytest_of_a_user(folder, *args, mode=mode)


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_a_users_file_of_twenty_lines_works(mode: str, tmp_path: Path) -> None:
    (tmp_path / "test_a_plain.py").write_text(PLAIN)
    (tmp_path / "test_z_plain.py").write_text(PLAIN)
    status, out = collected(tmp_path, USERS, "-v", mode=mode)
    assert status == 0, out
    for seed in range(3):
        assert f"test_users.py::test_reads_follow_discards[seed{seed}] PASSED" in out
    assert "test_users.py::test_my_driver_is_caught PASSED" in out
    assert "test_a_plain.py::test_plain PASSED" in out
    assert "test_z_plain.py::test_plain PASSED" in out


def test_a_finding_fails_the_test_with_its_report_and_replays_by_its_node(tmp_path: Path) -> None:
    text = USERS.replace('driver="v6"', "driver=ForgetsToUnlock")
    status, out = collected(tmp_path, text, mode="auto")
    assert status == 1
    title = "lost-unlock: region_interval_invalidate (region.mutex)"
    assert f"\n{title}\n" in out
    assert "host leaves region_interval_invalidate and still holds region@0x200.mutex" in out
    assert "notifier.start mm0.notifier" in out, "the columns"
    assert "Traceback" not in out
    assert "ExceptionGroup" not in out
    commands = re.findall(r"^replay: python -m pytest '(.*)'$", out, re.MULTILINE)
    failed = re.findall(r"^FAILED (\S+)", out, re.MULTILINE)
    assert commands == failed

    report = out[out.index(title) : out.index("!! lost-unlock")]
    status, again = pytest_of_a_user(tmp_path, commands[0])
    assert status == 1
    assert report in again, "the same seed is the same execution"


def test_each_way_to_fail_says_what_happened_and_how_to_see_it_again(tmp_path: Path) -> None:
    text = (
        USERS.partition("@pytest.mark")[0]
        + """
import asyncio

@pytest.mark.mshv("two-pages.toml", seeds=[7])
async def test_of_an_assertion(world: World) -> None:
    await world.vp(0).write(0x200, "a")
    assert await world.vp(0).read(0x200) == "b"

@pytest.mark.mshv("two-pages.toml", driver=ForgetsToUnlock)
async def test_of_what_it_left_running(world: World) -> None:
    await world.vp(0).write(0x200)
    task = asyncio.ensure_future(world.host.madvise_dontneed(0x200))
    await asyncio.sleep(0)

@pytest.mark.mshv("two-pages.toml")
async def test_of_a_search_inside(world: World) -> None:
    await explore("two-pages.toml")
"""
    )
    status, out = collected(tmp_path, text)
    assert status == 1
    assert "3 failed" in out, "in the tests, not in what comes after them"

    assert "AssertionError: assert 'a' == 'b'" in out
    assert "Captured mshv call" in out
    assert "replay: python -m pytest 'test_users.py::test_of_an_assertion[seed7]'" in out
    assert "guest.read partition2.slat 0x200" in out

    assert "lost-unlock: region_interval_invalidate" in out
    assert "replay: python -m pytest 'test_users.py::test_of_what_it_left_running[seed1]'" in out

    assert "explore runs a simulated loop of its own and cannot be awaited inside one" in out


def test_marks_of_classes_and_modules_count_and_users_fixtures_take_worlds(tmp_path: Path) -> None:
    text = """\
import anyio, pytest, pytest_asyncio
pytestmark = pytest.mark.mshv("two-pages.toml", seeds=range(2))

@pytest_asyncio.fixture
async def written(world):
    await world.vp(0).write(0x200, "w")
    return world

class TestPages:
    @pytest.mark.parametrize("gfn", [0x200, 0x201])
    async def test_in_a_class(self, written, gfn):
        assert await written.vp(0).read(gfn) == {0x200: "w", 0x201: 0}[gfn]

async def test_in_the_module(world):
    await world.settle()

def test_that_is_plain():
    pass

@pytest.mark.mshv("litmus/one-page", driver="fix1", seeds=[5], strategy="random", programs=True)
async def test_of_its_own(world):
    assert world.seed == 5
    await world.settle()
    assert world.steps > 20

@pytest.mark.mshv("scenarios/litmus/one-page.toml", driver="v6", seeds=range(8))
async def test_of_the_design(world):
    async with anyio.create_task_group() as tg:
        tg.start_soon(world.vp(0).write, 0x200, "a")
        tg.start_soon(world.host.madvise_dontneed, 0x200, 8)
    assert await world.vp(0).read(0x200) in ("a", 0)

@pytest.mark.xfail(strict=True)
async def test_expected_to_fail(world):
    assert await world.vp(0).read(0x200) == "x"

async def test_skipped(world):
    pytest.skip("inside the body")
"""
    status, out = collected(tmp_path, text, "-q", "-rA")
    assert status == 0, out
    assert "16 passed, 2 skipped, 2 xfailed" in out


MISUSES = {
    "unknown argument": ('"two-pages.toml", drivr="v6"', "mark mshv: found 'drivr'; allowed"),
    "no scenario": ("", "mark mshv: found no scenario"),
    "unknown scenario": ('"litmus/no-such"', "no such file, nor a shipped scenario"),
    "unknown driver": ('"two-pages.toml", driver="v66"', "unknown driver 'v66'"),
    "no driver": ('"two-pages.toml", driver=7', "driver: found 7; allowed"),
    "one seed": ('"two-pages.toml", seeds=8', "seeds: found 8; allowed"),
    "no seeds": ('"two-pages.toml", seeds=()', "seeds: found none"),
    "negative seed": ('"two-pages.toml", seeds=[-1]', "seeds: found -1"),
    "the same seed": ('"two-pages.toml", seeds=[1, 1]', "seeds: found a seed twice"),
    "unknown strategy": ('"two-pages.toml", strategy="luck"', "found 'luck'"),
    "enumerating strategy": ('"two-pages.toml", strategy="dfs"', "strategy: found 'dfs'"),
    "unknown program": ('"two-pages.toml", programs=["vp7"]', "programs: found 'vp7'"),
    "two scenarios": ('"two-pages.toml", "v6"', "found several scenarios"),
}


def test_bad_arguments_of_the_marker_are_told_in_a_line_each(tmp_path: Path) -> None:
    for number, (arguments, _) in enumerate(MISUSES.values()):
        text = f"import pytest\n@pytest.mark.mshv({arguments})\nasync def test_it(world): pass\n"
        (tmp_path / f"test_{number}.py").write_text(text)
    status, out = pytest_of_a_user(tmp_path)
    assert status == 2
    assert "Traceback" not in out
    assert "During handling" not in out, "each is told once"
    for number, (_, said) in enumerate(MISUSES.values()):
        lines = [
            line for line in out.splitlines() if line.startswith(f"test_{number}.py::test_it:")
        ]
        assert len(lines) == 1, (number, out)
        assert said in lines[0]


def test_a_marked_test_without_a_world_or_a_loop_is_refused_in_a_line(tmp_path: Path) -> None:
    marked = 'import pytest\n@pytest.mark.mshv("two-pages.toml")\n'
    (tmp_path / "test_1.py").write_text(f"{marked}def test_sync(world): pass\n")
    (tmp_path / "test_2.py").write_text(f"{marked}async def test_alone(): pass\n")
    (tmp_path / "test_3.py").write_text("def test_unmarked(world): pass\n")
    status, out = pytest_of_a_user(tmp_path, "--continue-on-collection-errors")
    assert status == 1
    assert "test_1.py::test_sync: mark mshv: found a plain function; allowed: async" in out
    assert "test_2.py::test_alone: mark mshv: the test does not take `world`" in out


def test_a_marked_test_says_what_it_lacks_where_pytest_asyncio_is_missing(tmp_path: Path) -> None:
    status, out = collected(tmp_path, USERS, "-p", "no:asyncio", "-o", "addopts=", "-W", "ignore")
    assert status == 2
    said = "mark mshv needs pytest-asyncio >= 1.5 and pytest >= 8.4; pytest-asyncio is not"
    assert said in out
    assert "Traceback" not in out


def test_suites_without_the_marker_load_nothing_and_keep_their_loops(tmp_path: Path) -> None:
    """The plugin comes with the package into every session; it has to be as good as absent."""
    text = """\
import asyncio, sys
import pytest

def test_nothing_is_loaded(request):
    loaded = [m for m in sys.modules if m.startswith("mshv_async") or m == "msgspec"]
    assert sorted(loaded) == ["mshv_async", "mshv_async.pytest_plugin"]
    assert "pytest_asyncio_loop_factories" in dir(request.config.hook)
    assert not request.config.hook.pytest_asyncio_loop_factories.get_hookimpls()

@pytest.mark.asyncio
async def test_plain(request):
    assert not hasattr(request.node, "callspec")
"""
    status, out = collected(tmp_path, text)
    assert status == 0, out


def test_a_loop_that_the_user_chose_stays_with_the_unmarked_tests(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("""\
import asyncio

class Mine(asyncio.SelectorEventLoop):
    pass

def pytest_asyncio_loop_factories(config, item):
    return {"mine": Mine}
""")
    text = (
        USERS
        + """

@pytest.mark.asyncio
async def test_of_mine():
    import asyncio
    assert type(asyncio.get_running_loop()).__name__ == "Mine"
"""
    )
    status, out = collected(tmp_path, text)
    assert status == 0, out
