"""Bad usage and bad input: exit status 2, one line that says what and where, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mshv_async
from mshv_async.cli import main
from mshv_async.explore import Repro, save_repro

SOURCE = str(Path(mshv_async.__file__).parent.parent)

SCENARIO = """\
summary = "One VP writes one page"

[[region]]
gfn = 0x200
size = "8KiB"

[[vp]]
program = ["write 0x200"]
"""

DRIVER = """\
from mshv_async.driver import V6


class Mine(V6):
    pass


class Arity(V6):
    async def region_interval_invalidate(self, mni):
        return True


class Exits(V6):
    async def region_interval_invalidate(self, mni, range, cur_seq):
        raise SystemExit(3)


class Calls(V6):
    async def region_interval_invalidate(self, mni, range, cur_seq):
        return len(1, 2)


class Slips(V6):
    def helper(self, one):
        return True

    async def region_interval_invalidate(self, mni, range, cur_seq):
        return self.helper()


class NoDriver:
    pass
"""


def repro(**keys):
    sound = {
        "scenario": SCENARIO,
        "scenario_name": "mine",
        "files": {},
        "driver": "v6",
        "driver_source": None,
        "strategy": "pct",
        "seed": 1,
        "decisions": [],
        "digest": "00" * 32,
        "verdict": "oops",
        "title": "oops: f",
        "package_version": "0.1.0",
    }
    return Repro(**(sound | keys))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a sound scenario and everything that can be wrong beside it."""
    monkeypatch.chdir(tmp_path)
    files = {
        "good.toml": SCENARIO,
        "broken.toml": SCENARIO + "[[[\n",
        "key.toml": SCENARIO + 'programm = ["write 0x200"]\n',
        "type.toml": SCENARIO.replace('"8KiB"', "true"),
        "overlap.toml": SCENARIO + '[[region]]\ngfn = 0x201\nsize = "8KiB"\n',
        "gfn.toml": SCENARIO.replace("write 0x200", f"write {1 << 60:#x}"),
        "bare.toml": 'summary = "nothing runs"\n',
        "driver.py": DRIVER,
        "syntax.py": "class Mine(\n",
        "raises.py": "raise RuntimeError('first\\nsecond')\n",
        "missing.py": "import no_such_module_at_all\n",
        "exits.py": "import sys\nsys.exit(0)\n",
        "discard.toml": SCENARIO
        + '[[thread]]\nkind = "host"\nprogram = ["madvise dontneed 0x200 1"]\n',
        "damaged.repro.json": '{"schema": "mshv-async.repro/1"',
        "lacking.repro.json": '{"schema": "mshv-async.repro/1", "seed": 1}',
        "no.jsonl": "this is no log\n",
        "file": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    save_repro("source.repro.json", repro(driver="my.py:Mine", driver_source=DRIVER))
    save_repro("scenario.repro.json", repro(scenario="summary ="))
    save_repro("driver.repro.json", repro(driver="v66"))
    return tmp_path


CASES = {
    "no command": ([], "command"),
    "unknown command": (["exploer", "good.toml"], "exploer"),
    "unknown option": (["explore", "good.toml", "--stratgy", "pct"], "--stratgy"),
    "no scenario": (["explore"], "SCENARIO"),
    "seed is no number": (["run", "good.toml", "--seed", "one"], "--seed"),
    "no schedules": (["explore", "good.toml", "--schedules", "0"], "--schedules"),
    "negative preemptions": (["explore", "good.toml", "--preemptions", "-1"], "--preemptions"),
    "time is no number": (["explore", "good.toml", "--time", "soon"], "--time"),
    "unknown list": (
        ["list", "bogus"],
        "kind: found 'bogus'; allowed: scenarios, drivers, patches",
    ),
    "empty scenario": (["run", ""], "scenario: found nothing; allowed: the path of a scenario"),
    "missing scenario": (["run", "litmus/no-such"], "litmus/no-such"),
    "missing file": (["explore", "no/such.toml"], "no/such.toml"),
    "broken TOML": (["explore", "broken.toml"], "broken.toml: line 9"),
    "unknown key": (["explore", "key.toml"], "key.toml: vp[0].programm"),
    "wrong type": (["explore", "type.toml"], "type.toml: region[0].size"),
    "overlapping regions": (["explore", "overlap.toml"], "overlap.toml: region[1]"),
    "gfn out of range": (["explore", "gfn.toml"], "gfn.toml: vp[0].program[0]"),
    "nothing runs": (["explore", "bare.toml"], "bare.toml"),
    "a folder for a scenario": (["explore", "."], "folder"),
    "unknown driver": (["explore", "good.toml", "--driver", "v66"], "v66"),
    "unknown driver, run": (["run", "good.toml", "--driver", "v66"], "v66"),
    "unknown patch": (["explore", "good.toml", "--driver", "v6+no-such"], "no-such"),
    "patch on a wrong base": (
        ["explore", "good.toml", "--driver", "fix1+unlock-on-failure"],
        "unlock-on-failure is not for fix1",
    ),
    "unknown strategy": (["explore", "good.toml", "--strategy", "luck"], "luck"),
    "bound of no use": (["explore", "good.toml", "--preemptions", "2"], "--preemptions"),
    "driver file missing": (
        ["explore", "good.toml", "--driver", "no.py:Mine"],
        "no.py: no such file",
    ),
    "plus without a patch": (
        ["explore", "good.toml", "--driver", "v6+"],
        "v6+: a patch is missing after +",
    ),
    "driver file with a syntax error": (
        ["explore", "good.toml", "--driver", "syntax.py:Mine"],
        "syntax.py",
    ),
    "driver file that raises": (["run", "good.toml", "--driver", "raises.py:Mine"], "raises.py"),
    "driver file that does not import": (
        ["run", "good.toml", "--driver", "missing.py:Mine"],
        "no_such_module_at_all",
    ),
    "driver file without the class": (
        ["explore", "good.toml", "--driver", "driver.py:Yours"],
        "driver.py has no class Yours; it has: Mine, Arity, Exits, Calls, Slips",
    ),
    "driver file that ends the program": (
        ["explore", "good.toml", "--driver", "exits.py:Mine"],
        "exits.py does not import: it ends the program",
    ),
    "method of a wrong arity": (
        ["run", "good.toml", "--driver", "driver.py:Arity"],
        "driver.py:9: Arity.region_interval_invalidate takes (mni), but is called with (mni, range",
    ),
    "method that ends the program": (
        ["explore", "discard.toml", "--driver", "driver.py:Exits"],
        "driver.py:15: Exited: SystemExit(3)",
    ),
    "method that raises": (
        ["explore", "discard.toml", "--driver", "driver.py:Calls"],
        "driver.py:20: TypeError",
    ),
    "method that calls another wrongly": (
        ["explore", "discard.toml", "--driver", "driver.py:Slips"],
        "driver.py:28: TypeError",
    ),
    "class that is no driver": (
        ["explore", "good.toml", "--driver", "driver.py:NoDriver"],
        "NoDriver is not a driver",
    ),
    "missing repro": (["replay", "no.repro.json"], "no.repro.json"),
    "damaged repro": (["replay", "damaged.repro.json"], "damaged.repro.json"),
    "repro that lacks keys": (["replay", "lacking.repro.json"], "lacking.repro.json"),
    "repro of another kind": (["replay", "good.toml"], "good.toml"),
    "repro with driver source": (["replay", "source.repro.json"], "--trust"),
    "repro with a broken scenario": (
        ["replay", "scenario.repro.json"],
        "scenario.repro.json: mine: end of file: found broken TOML",
    ),
    "repro of an unknown driver": (
        ["replay", "driver.repro.json"],
        "driver.repro.json: unknown driver 'v66'",
    ),
    "missing log": (["analyze", "no-such.jsonl"], "no-such.jsonl"),
    "a file that is no log": (["analyze", "no.jsonl"], "no.jsonl"),
    "a folder that is no log": (["analyze", "."], "directory"),
    "output folder that is a file": (
        ["explore", "good.toml", "--out", "file"],
        "file: is a file; allowed: a folder",
    ),
    "output folder below a file": (["explore", "good.toml", "--out", "file/out"], "file/out"),
    "log below a file": (["run", "good.toml", "--log", "file/run.jsonl"], "file"),
    "log in no folder": (["run", "good.toml", "--log", "no/such/run.jsonl"], "no/such"),
    "a folder for a log": (["run", "good.toml", "--log", "."], "directory"),
}


@pytest.mark.parametrize(("args", "said"), CASES.values(), ids=CASES.keys())
def test_bad_input_is_one_line_and_status_2(args, said, capsys):
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mshv-async: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert said in err


def test_a_campaign_that_cannot_begin_leaves_no_folder_behind(folder):
    assert main(["explore", "good.toml", "--driver", "v66"]) == 2
    assert not (folder / "mshv-async-runs").exists()


def test_a_run_that_cannot_begin_leaves_no_log_behind(folder):
    assert main(["run", "good.toml", "--driver", "v66", "--log", "run.jsonl"]) == 2
    assert not (folder / "run.jsonl").exists()


@pytest.mark.parametrize(
    "args",
    [["explore", "--no-such"], ["run", "no-such"], ["replay", "damaged.repro.json"]],
    ids=["usage", "scenario", "repro"],
)
def test_the_same_holds_for_the_program_as_a_process(args, folder):
    done = subprocess.run(
        [sys.executable, "-m", "mshv_async.cli", *args],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": SOURCE, "COLUMNS": "40", "FORCE_COLOR": "1"},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
