"""What the README shows is what a reader gets."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mshv_async.cli import main
from mshv_async.explore.campaign import explore_sync
from mshv_async.pytest_plugin import MARKER
from mshv_async.scenario import Scenario
from mshv_async.testing.callers import Host, Khugepaged, OomReaper, Reclaimer, Vmm, Vp

LONG = os.environ.get("MSHV_ASYNC_LONG") == "1"
README = (Path(__file__).parent.parent / "README.md").read_text()


def block(language: str, start: str) -> str:
    """Return the fenced block of a language whose text begins so."""
    found = re.search(rf"```{language}\n({re.escape(start)}.*?)```", README, re.DOTALL)
    assert found is not None, f"no {language} block that begins with {start!r}"
    return found[1]


def normal(text: str) -> str:
    """Leave out what differs from run to run: seconds and folders."""
    text = re.sub(r"\d+\.\d s", "N s", text)
    return re.sub(r"mshv-async-runs/\S*?(?=/|\s|$)", "mshv-async-runs/DATE", text).strip()


def test_the_first_line_prints_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = re.search(r"mshv-async (explore bugs/.*)", README)
    assert line is not None
    monkeypatch.chdir(tmp_path)
    assert main(line[1].split()) == 0
    assert normal(capsys.readouterr().out) == normal(block("text", "use-after-free:"))


@pytest.mark.skipif(not LONG, reason="takes twenty seconds")
def test_the_proof_of_the_readme_is_what_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = block("text", "$ mshv-async explore litmus/").partition("\n")
    monkeypatch.chdir(tmp_path)
    assert main(shown[0].split()[2:]) == 0
    assert normal(capsys.readouterr().out) == normal(shown[2])


def test_the_driver_of_the_readme_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_driver.py").write_text(block("python", "# my_driver.py"))
    monkeypatch.chdir(tmp_path)
    status = main(["explore", "litmus/one-page", "--driver", "my_driver.py:NeverTouchesTheTable"])
    assert status == 1, "the scenario expects an unknown driver to be clean"
    assert "invariant:stale-mapping" in capsys.readouterr().out


def test_the_test_of_the_readme_is_one_that_runs() -> None:
    file = Path(__file__).parent / "stress" / "test_reclaim_storm.py"
    text = file.read_text()
    assert block("python", text.partition("\n")[0]) == text
    assert "python -m pytest tests/stress/test_reclaim_storm.py" in README


def test_the_readme_names_every_call_of_a_world() -> None:
    for caller in (Vp, Host, Vmm, Reclaimer, OomReaper, Khugepaged):
        for name in vars(caller):
            if not name.startswith("_") and callable(getattr(caller, name)):
                assert f"`{name}" in README, f"{caller.__name__}.{name}"
    said = " ".join(README.split())
    assert f"`{MARKER.partition(':')[0]}`" in said


@pytest.mark.parametrize("driver", ["v6", "v7", "v9", "fix1"])
def test_the_scenario_of_the_readme_comes_out_as_it_says(driver: str) -> None:
    scenario = Scenario.parse(block("toml", 'summary = "One VP'), "readme")
    campaign = explore_sync(scenario, driver, schedules=400)
    verdicts = {found.finding.verdict for found in campaign.findings}
    assert verdicts
    assert verdicts <= set(scenario.expected(driver))


def test_the_readme_names_every_command_and_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "drivers"]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert f"`{line.split()[0]}`" in README
    for command in ("run", "explore", "replay", "analyze", "list"):
        assert f"mshv-async {command} " in README
