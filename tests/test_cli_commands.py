"""What each command prints, writes and exits with, whatever the executions behind it come to.

The executions are stand-ins; that the real ones fit is shown where commands run scenarios.
"""

import json
import os
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
from typer.main import get_command

import mshv_async
from mshv_async.cli import COMMANDS, main
from mshv_async.cli.app import app
from mshv_async.driver import DriverError
from mshv_async.explore import (
    CampaignResult,
    FoundFinding,
    ReplayResult,
    Repro,
    RunResult,
    load_repro,
    save_repro,
)
from mshv_async.explore.numbers import Shard
from mshv_async.explore.results import RuntimeDefect
from mshv_async.log import Finding, NoteRecord, RunHeader, StepRecord, analyze

SCENARIO = """\
summary = "One VP writes one page"

[[region]]
gfn = 0x200
size = "8KiB"

[[vp]]
program = ["write 0x200"]

[expect]
v6 = ["lost-unlock"]
"""

HEADER = RunHeader("mshv-async.log/1", "good", "v6", "fifo", 1, "0.1.0")
RECORDS = [
    StepRecord(1, 0, "vp0", "mutex.lock", "region@0x200.mutex"),
    NoteRecord(1, 40, "vp0", "fault.begin", {"gfn": 0x200}),
    StepRecord(2, 90, "madvise", "notifier.start", "mm0"),
]
FINDING = Finding("lost-unlock", "lost-unlock: region_interval_invalidate (region.mutex)")
REPRO = Repro(
    scenario=SCENARIO,
    scenario_name="good",
    files={},
    driver="v6",
    driver_source=None,
    strategy="pct",
    seed=1,
    decisions=[],
    digest="ab" * 32,
    verdict="lost-unlock",
    title=FINDING.title,
    package_version="0.1.0",
)
FOUND = FoundFinding(FINDING, REPRO, 3, 1, 2, 1, RECORDS)


def run_result(finding=FINDING):
    verdict, title = (finding.verdict, finding.title) if finding else ("clean", "")
    return RunResult(verdict, title, "ab" * 32, 2, 1500, HEADER, RECORDS, finding)


def campaign(*findings, **more):
    keys = {"schedules": 3, "steps": 600, "seconds": 0.5, "exhausted": False} | more
    return CampaignResult(findings=findings, **keys)


class StandIns:
    """The functions that commands call; each takes down its arguments and gives what was set."""

    def __init__(self):
        self.asked = {}
        self.campaign = campaign(FOUND)
        self.run = run_result()
        self.replay = ReplayResult(run_result(), matches=True)

    def explore_sync(self, scenario, driver, **options):
        self.asked = {"scenario": scenario.name, "driver": driver.name, **options}
        assert self.asked.pop("store").is_dir()
        return self.campaign

    def run_scenario(self, scenario, driver, seed, **options):
        self.asked = {"scenario": scenario.name, "driver": driver, "seed": seed, **options}
        if isinstance(self.run, BaseException):
            raise self.run
        return self.run

    def replay_repro(self, repro, trust):
        self.asked = {"repro": repro, "trust": trust}
        return self.replay


@pytest.fixture
def stand_ins(monkeypatch):
    made = StandIns()
    for name, functions in {
        "campaign": {"explore_sync": made.explore_sync},
        "single": {"run_scenario": made.run_scenario, "replay_repro": made.replay_repro},
    }.items():
        module = types.SimpleNamespace(**functions)
        monkeypatch.setitem(sys.modules, f"mshv_async.explore.{name}", module)
    return made


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.toml").write_text(SCENARIO)
    save_repro("1-lost-unlock.repro.json", REPRO)
    return tmp_path


def printed_json(capsys):
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    return json.loads(out)


def test_explore_defaults_are_the_documented_ones(stand_ins, capsys):
    assert main(["explore", "good.toml"]) == 0
    assert stand_ins.asked == {
        "scenario": "good",
        "driver": "v6",
        "strategy": "portfolio",
        "schedules": 10_000,
        "seconds": None,
        "seed": 1,
        "preemptions": None,
        "workers": 1,
        "keep_going": False,
        "shrink": True,
        "proves": True,
        "progress": None,
        "expect": None,
        "checks": None,
        "shard": Shard(1, 1),
        "resume": False,
        "audit": False,
    }


def test_explore_takes_every_documented_option(stand_ins, capsys):
    args = "--driver v7 --strategy random --schedules 5 --time 1.5 --seed 9"
    args += " --workers 2 --keep-going --no-shrink --out out --json --shard 2/3 --resume --audit"
    main(["explore", "good.toml", *args.split()])
    assert stand_ins.asked == {
        "scenario": "good",
        "driver": "v7",
        "strategy": "random",
        "schedules": 5,
        "seconds": 1.5,
        "seed": 9,
        "preemptions": None,
        "workers": 2,
        "keep_going": True,
        "shrink": False,
        "proves": True,
        "progress": None,
        "expect": None,
        "checks": None,
        "shard": Shard(2, 3),
        "resume": True,
        "audit": True,
    }


def test_explore_prints_the_report_and_saves_outcome_and_repros(stand_ins, capsys, folder):
    assert main(["explore", "good.toml", "--out", "out"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(FINDING.title)
    assert "replay: mshv-async replay out/1-lost-unlock.repro.json" in out
    assert "mutex.lock region@0x200.mutex" in out
    assert "outcome: lost-unlock, as expected" in out
    assert out.endswith("saved in out\n")
    assert load_repro("out/1-lost-unlock.repro.json") == REPRO
    saved = json.loads(Path("out/outcome.json").read_text())
    assert saved["findings"][0]["repro"] == str(folder / "out" / "1-lost-unlock.repro.json")


def test_explore_json_is_one_object_and_the_saved_outcome(stand_ins, capsys):
    assert main(["explore", "good.toml", "--out", "out", "--json"]) == 0
    data = printed_json(capsys)
    assert data["outcome"] == "lost-unlock"
    assert data == json.loads(Path("out/outcome.json").read_text())


def test_explore_saves_under_a_dated_folder_by_default(stand_ins, capsys, folder):
    main(["explore", "good.toml"])
    (dated,) = (folder / "mshv-async-runs").iterdir()
    assert {path.name for path in dated.iterdir()} == {"outcome.json", "1-lost-unlock.repro.json"}


@pytest.mark.parametrize(
    ("driver", "findings", "status"),
    [("v6", [FOUND], 0), ("v6", [], 1), ("fix1", [FOUND], 1), ("fix1", [], 0)],
)
def test_the_exit_status_says_whether_the_outcome_is_the_expected_one(
    stand_ins, capsys, driver, findings, status
):
    stand_ins.campaign = campaign(*findings)
    assert main(["explore", "good.toml", "--driver", driver]) == status
    stand_ins.run = run_result(FINDING if findings else None)
    assert main(["run", "good.toml", "--driver", driver]) == status


def test_an_interrupted_campaign_keeps_and_reports_what_it_found(stand_ins, capsys):
    stand_ins.campaign = campaign(FOUND, interrupted=True)
    assert main(["explore", "good.toml", "--out", "out"]) == 130
    out, err = capsys.readouterr()
    assert FINDING.title in out
    assert "found so far" in out
    assert err == "mshv-async: interrupted\n"
    assert Path("out/1-lost-unlock.repro.json").exists()


def test_an_interrupted_run_says_so_in_one_line(stand_ins, capsys):
    stand_ins.run = KeyboardInterrupt()
    assert main(["run", "good.toml"]) == 130
    assert capsys.readouterr() == ("", "mshv-async: interrupted\n")


def test_a_defect_of_the_program_is_not_blamed_on_the_input(stand_ins):
    stand_ins.run = ZeroDivisionError("a bug of ours")
    with pytest.raises(ZeroDivisionError):
        main(["run", "good.toml"])


def test_run_prints_and_logs(stand_ins, capsys, folder):
    assert main(["run", "good.toml", "--log", "run.jsonl", "--json", "--seed", "4"]) == 0
    data = printed_json(capsys)
    assert data["log"] == str(folder / "run.jsonl")
    assert data["seed"] == 4
    assert data["virtual_ns"] == 1500
    assert stand_ins.asked["keep_log"] is True
    analysis = analyze("run.jsonl")
    assert analysis.verdict.verdict == "lost-unlock"
    assert analysis.faults.count == 1


def test_run_writes_nothing_but_the_log(stand_ins, capsys, folder):
    before = set(folder.iterdir())
    assert main(["run", "good.toml", "--realtime"]) == 0
    assert set(folder.iterdir()) == before
    assert stand_ins.asked["realtime"] is True


@pytest.mark.parametrize(("columns", "shown"), [([], False), (["--columns"], True)])
def test_replay_shows_columns_when_asked(stand_ins, capsys, columns, shown):
    assert main(["replay", "1-lost-unlock.repro.json", *columns]) == 0
    assert ("notifier.start mm0" in capsys.readouterr().out) is shown


def test_replay_json_and_log(stand_ins, capsys):
    args = ["replay", "1-lost-unlock.repro.json", "--json", "--log", "replay.jsonl"]
    assert main(args) == 0
    data = printed_json(capsys)
    assert data["matches"] is True
    assert data["recorded_digest"] == "ab" * 32
    assert Path("replay.jsonl").exists()


def test_a_replay_that_departs_says_where_and_exits_1(stand_ins, capsys):
    stand_ins.replay = ReplayResult(run_result(), matches=False, departure="departs at step 2: x")
    assert main(["replay", "1-lost-unlock.repro.json"]) == 1
    assert "replay: departs at step 2: x" in capsys.readouterr().out


def test_driver_source_in_a_repro_runs_with_trust_and_says_so(stand_ins, capsys):
    carrying = msgspec.structs.replace(REPRO, driver="my.py:Mine", driver_source="class Mine: …")
    save_repro("mine.repro.json", carrying)
    main(["replay", "mine.repro.json", "--trust"])
    assert stand_ins.asked["trust"] is True
    err = capsys.readouterr().err
    assert (
        err == "mshv-async: running the driver source that mine.repro.json carries (my.py:Mine)\n"
    )


def test_analyze_prints_tables_or_one_object(stand_ins, capsys):
    main(["run", "good.toml", "--log", "run.jsonl"])
    capsys.readouterr()
    assert main(["analyze", "run.jsonl"]) == 0
    assert capsys.readouterr().out.startswith("lost-unlock: ")
    assert main(["analyze", "run.jsonl", "--json"]) == 0
    assert printed_json(capsys)["faults"]["unfinished"] == 1


def test_analyze_of_a_cut_log_succeeds_with_a_note(stand_ins, capsys, folder):
    main(["run", "good.toml", "--log", "run.jsonl"])
    data = (folder / "run.jsonl").read_bytes()
    (folder / "run.jsonl").write_bytes(data[:-30])
    capsys.readouterr()
    assert main(["analyze", "run.jsonl"]) == 0
    assert "note: line 5 is cut short" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "keys", "name"),
    [
        ("scenarios", ["name", "summary", "path", "bugs"], "litmus/one-page"),
        ("drivers", ["name", "summary", "base"], "fix1"),
        ("patches", ["name", "summary", "applies_to", "bugs"], "unlock-on-failure"),
        ("strategies", ["name", "summary"], "pct"),
        ("invariants", ["name", "summary"], "stale-mapping"),
    ],
)
def test_list_names_and_describes(capsys, kind, keys, name):
    assert main(["list", kind, "--json"]) == 0
    items = printed_json(capsys)["items"]
    assert all(list(item) == keys for item in items)
    assert all(item["summary"] for item in items)
    assert name in [item["name"] for item in items]
    assert main(["list", kind]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(items)


def test_the_program_says_its_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mshv-async {version('mshv-async')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_and_option_has_a_help_text(command):
    params = get_command(app).commands[command].params
    assert [param.name for param in params if not param.help] == []


def test_help_answers_at_once_without_the_emulator(capsys):
    code = (
        "import sys; from mshv_async.cli import main; assert main(['--help']) == 0; "
        "loaded = [m for m in sys.modules if m.startswith(('mshv_async.', 'structlog'))]; "
        "assert all(m.startswith('mshv_async.cli') for m in loaded), loaded"
    )
    source = str(Path(mshv_async.__file__).parent.parent)
    env = os.environ | {"PYTHONPATH": source}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=env)


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_a_terminal_without_unicode_still_gets_the_text(locale):
    source = str(Path(mshv_async.__file__).parent.parent)
    code = "from mshv_async.cli import show; show('a … b')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": source} | locale,
    )
    assert done.stdout == b"a ? b\n"


def test_a_reader_that_goes_away_is_no_error_with_a_traceback():
    source = str(Path(mshv_async.__file__).parent.parent)
    command = f"{sys.executable} -m mshv_async.cli list invariants | true"
    done = subprocess.run(
        ["bash", "-c", command],
        check=False,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": source},
    )
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("terminal", "coloured"),
    [((True, ""), True), ((True, "1"), False), ((False, ""), False)],
)
def test_colour_follows_the_terminal_and_no_color(
    stand_ins, capsys, monkeypatch, terminal, coloured
):
    isatty, no_color = terminal
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: isatty)
    main(["run", "good.toml"])
    assert ("\x1b[" in capsys.readouterr().out) is coloured


def test_the_bound_of_preemptions_is_part_of_the_outcome(stand_ins, capsys):
    main(["explore", "good.toml", "--strategy", "dfs", "--preemptions", "2", "--json"])
    assert printed_json(capsys)["preemptions"] == 2


def test_interrupted_and_cut_are_told_to_programs_too(stand_ins, capsys):
    stand_ins.campaign = campaign(interrupted=True, cut=7)
    main(["explore", "good.toml", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert (data["interrupted"], data["cut"]) == (True, 7)


def test_the_summary_names_title_and_file_of_each_finding(stand_ins, capsys):
    main(["explore", "good.toml", "--out", "out"])
    lines = capsys.readouterr().out.splitlines()
    at = lines.index(f"finding 1: {FINDING.title}")
    assert lines[at + 2] == "  out/1-lost-unlock.repro.json"


def test_an_error_late_in_a_campaign_keeps_what_was_found(stand_ins, capsys):
    stand_ins.campaign = campaign(FOUND, error=DriverError("my.py:3: ZeroDivisionError: x"))
    assert main(["explore", "good.toml", "--keep-going", "--out", "out"]) == 2
    out, err = capsys.readouterr()
    assert FINDING.title in out
    assert "ended by an error" in out
    assert err == "mshv-async: my.py:3: ZeroDivisionError: x\n"
    assert Path("out/1-lost-unlock.repro.json").exists()
    assert Path("out/outcome.json").exists()


def test_a_finding_that_does_not_replay_is_blamed_on_the_program(stand_ins, capsys):
    stand_ins.campaign = campaign(error=RuntimeDefect("execution 3 found 'x'"))
    assert main(["explore", "good.toml", "--driver", "fix1"]) == 1
    said = "mshv-async: a defect of mshv-async, not of the driver: execution 3 found 'x'\n"
    assert capsys.readouterr().err == said


def test_a_folder_used_again_holds_one_campaign_and_what_else_was_there(stand_ins, capsys):
    stand_ins.campaign = campaign(FOUND, FOUND)
    main(["explore", "good.toml", "--out", "out"])
    for name in ("notes.txt", "mine.repro.json", "3-oops.repro.json.bak"):
        Path("out", name).touch()
    stand_ins.campaign = campaign()
    main(["explore", "good.toml", "--out", "out"])
    left = sorted(path.name for path in Path("out").iterdir())
    assert left == ["3-oops.repro.json.bak", "mine.repro.json", "notes.txt", "outcome.json"]
