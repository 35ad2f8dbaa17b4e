"""The shipped scenarios load, read well and leave failing to the strategy."""

from pathlib import Path

import pytest

from mshv_async.scenario import Scenario, list_scenarios, shipped, shipped_folder

SHIPPED = {entry.name: entry for entry in list_scenarios()}
BUGS = {name: entry for name, entry in SHIPPED.items() if name.startswith("bugs/")}


@pytest.mark.parametrize("name", SHIPPED)
def test_it_loads_by_name_and_by_path(name):
    scenario = Scenario.load(name)
    assert scenario.name == name
    for other in (Scenario.load(SHIPPED[name].path), Scenario.load(f"scenarios/{name}.toml")):
        assert (other.name, other.text, other.traces) == (name, scenario.text, scenario.traces)
    assert scenario.expect


def test_the_list_has_what_the_litmus_tests_and_the_bugs_need():
    assert {"litmus/one-page", "litmus/two-vps-one-reclaimer", "stress/traces"} <= set(SHIPPED)
    shown = {bug for entry in BUGS.values() for bug in entry.bugs}
    assert {"A01", "A07", "C01", "D01", "D05", "D06", "D07", "D08"} <= shown
    assert list(SHIPPED) == sorted(SHIPPED)
    assert all(Path(entry.path).is_file() and entry.summary for entry in SHIPPED.values())


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_scenario_is_neutral(name):
    scenario = Scenario.load(name)
    assert not any(injection.force for injection in scenario.inject)
    assert "panics" in scenario.summary or not scenario.panic_on_warn
    assert any(verdicts for verdicts in scenario.expect.values())
    assert not any(
        bug.lower() in scenario.text.split("[expect]")[0].lower().split("bugs")[0]
        for bug in scenario.bugs
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_readable_in_a_minute(name):
    assert len(Scenario.load(name).text.splitlines()) <= 60


def test_traces_fit_into_the_region_of_the_stress_test():
    scenario = Scenario.load("stress/traces")
    region = scenario.region[0]
    for thread in scenario.threads[:4]:
        assert thread.source.base + thread.source.trace.pages <= region.gfn + region.pages


def test_the_shipped_folder_is_found_in_the_package_first(monkeypatch, tmp_path):
    assert shipped_folder().name == "scenarios"
    (tmp_path / "scenarios").mkdir()
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path)
    assert shipped_folder() == tmp_path / "scenarios"
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "inside")
    assert shipped_folder() == tmp_path / "scenarios"
