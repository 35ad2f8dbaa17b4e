"""The reference pages say what the package does: users believe them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import inspect

import mshv_async
import mshv_async.driver
from mshv_async.cli import main
from mshv_async.explore.single import run_scenario
from mshv_async.log.record import NoteRecord, RunHeader, RunVerdict
from mshv_async.scenario import Scenario
from mshv_async.scenario.model import Situation
from mshv_async.scenario.operations import GRAMMARS
from mshv_async.scenario.shipped import shipped_folder

PACKAGE = Path(mshv_async.__file__).parent
PAGES = PACKAGE / "reference"


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text()


def test_the_driver_page_lists_exactly_what_a_driver_can_import():
    listed = re.findall(r"^\* `(?:await )?(\w+)", page("driver-api"), re.MULTILINE)
    assert sorted(listed) == sorted(mshv_async.driver.__all__)


@pytest.mark.parametrize(("cls", "status"), [("ForgetsTheTable", 1), ("Tells", 0)])
def test_the_example_of_the_driver_page_does_what_it_says(
    cls, status, tmp_path, monkeypatch, capsys
):
    code = re.search(r"```python\n(# my_driver\.py\n.*?)```", page("driver-api"), re.DOTALL)
    (tmp_path / "my_driver.py").write_text(code[1])
    monkeypatch.chdir(tmp_path)
    driver = f"my_driver.py:{cls}"
    found = main(["explore", "litmus/one-page", "--driver", driver, "--schedules", "300"])
    assert found == status
    assert ("invariant:stale-mapping" in capsys.readouterr().out) == (status == 1)
    main(["run", "litmus/one-page", "--driver", driver, "--log", "run.jsonl"])
    assert ("my_driver.invalidate" in Path("run.jsonl").read_text()) == (cls == "Tells")


def tables(kind, name=""):
    """Yield each table of a scenario and its keys, as the loader knows them."""
    kind = inspect.type_info(kind) if isinstance(kind, type) else kind
    if isinstance(kind, inspect.StructType | inspect.DataclassType):
        yield name, [field.encode_name for field in kind.fields]
        for field in kind.fields:
            yield from tables(field.type, field.encode_name)
    for inner in getattr(kind, "types", ()):
        yield from tables(inner, name)
    for attribute in ("item_type", "type"):
        inner = getattr(kind, attribute, None)
        if isinstance(inner, inspect.Type):
            yield from tables(inner, name)


def literals(kind):
    """Yield each word that some key of a scenario may be."""
    kind = inspect.type_info(kind) if isinstance(kind, type) else kind
    if isinstance(kind, inspect.LiteralType):
        yield from kind.values
    for field in getattr(kind, "fields", ()):
        yield from literals(field.type)
    for inner in getattr(kind, "types", ()):
        yield from literals(inner)
    for attribute in ("item_type", "type"):
        inner = getattr(kind, attribute, None)
        if isinstance(inner, inspect.Type):
            yield from literals(inner)


def test_the_scenario_page_has_every_table_key_and_word_that_the_loader_takes():
    text = page("scenarios")
    words = set(re.findall(r"[`\"]([\w.-]+)[`\"]", text))
    for table, keys in tables(Situation):
        missing = [key for key in keys if key not in words and f"[{key}]" not in text]
        assert not missing, f"[{table}] lacks {missing}"
    missing = set(literals(Situation)) - words
    assert not missing, f"no word on {sorted(missing)}"


def test_the_scenario_page_has_exactly_the_operations_and_their_threads():
    rows = re.findall(r"^\| `([^`]+)` \| ([\w, -]+) \|", page("scenarios"), re.MULTILINE)
    operations = {usage.replace("\\|", "|"): threads for usage, threads in rows if usage}
    known = {g.usage: ", ".join(g.threads) or "any" for g in GRAMMARS.values()}
    assert {u: t for u, t in operations.items() if u.split()[0] in GRAMMARS} == known


def test_the_scenario_page_gives_the_defaults_of_the_loader():
    text = page("scenarios")
    for table in ("host", "hypervisor", "partition", "bounds"):
        section = text.split(f"## `[{table}]`")[1].split("\n## ")[0]
        rows = re.findall(r"^\| (`.*?`) \| `(.*?)` \|", section, re.MULTILINE)
        given = {key: value for keys, value in rows for key in re.findall(r"`(\w+)`", keys)}
        default = Situation(summary="")
        for key, value in given.items():
            actual = getattr(getattr(default, table), key)
            written = value.strip('"').replace("MiB", "") if key == "memory" else value.strip('"')
            actual = actual >> 20 if key == "memory" else actual
            assert written == str(actual).replace("True", "true").replace("False", "false"), key


def noted() -> dict[str, set[str]]:
    """Return the note events of the log page with their fields."""
    notes = page("log").split("## Notes")[1]
    rows = re.findall(r"^\| `([\w.]+)` \|([^|]*)\| [^|]+ \|$", notes, re.MULTILINE)
    return {event: set(re.findall(r"`(\w+)`", fields)) for event, fields in rows}


def test_the_log_page_has_every_note_of_the_models():
    files = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "log" / "record.py"]
    told = {e for path in files for e in re.findall(r'\bnote\(\s*"([\w.]+)"', path.read_text())}
    assert told <= set(noted())


def shipped() -> list[str]:
    folder = shipped_folder()
    names = (str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.toml"))
    return sorted(name for name in names if not name.startswith("stress/"))


@pytest.mark.parametrize("driver", ["v6", "fix1"])
def test_the_log_page_has_the_fields_that_kept_executions_of_all_scenarios_write(driver):
    page_fields = noted()
    for name in shipped():
        run = run_scenario(Scenario.load(name), driver, 1, realtime=False, keep_log=True)
        for record in run.records:
            if isinstance(record, NoteRecord):
                extra = set(record.fields) - page_fields.get(record.event, set())
                assert record.event in page_fields, record.event
                assert not extra, f"{record.event} in {name}: {extra}"


def test_the_log_page_has_the_fields_of_the_first_and_last_line():
    text = page("log")
    for field in (*RunHeader.__struct_fields__, *RunVerdict.__struct_fields__):
        assert f"`{field}`" in text


def test_every_bug_that_the_package_names_has_a_line():
    known = set(re.findall(r"^\| ([A-HX]\d\d) \|", page("bugs"), re.MULTILINE))
    files = [*PACKAGE.rglob("*.py"), *shipped_folder().rglob("*.toml")]
    used = {bug for path in files for bug in re.findall(r"\b[A-HX]\d\d\b", path.read_text())}
    assert used <= known


def test_the_readme_links_every_page():
    readme = (PACKAGE.parent / "README.md").read_text()
    for path in PAGES.glob("*.md"):
        assert f"(mshv_async/reference/{path.name})" in readme
