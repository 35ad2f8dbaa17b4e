"""The page on commands has every option and key: scripts are written from it."""

import re
from pathlib import Path

import pytest

import mshv_async
from mshv_async.cli import main
from mshv_async.explore.bisecting import Bisection, Change, Judgement
from mshv_async.explore.decisions import DecisionSeen, Standing
from mshv_async.explore.inversions import EXECUTIONS, EXECUTIONS_MAX
from mshv_async.explore.likelihood import Jump, Likelihood, Point, Share
from mshv_async.log.difference import Difference, Doing, Side

PAGE = (Path(mshv_async.__file__).parent / "reference" / "commands.md").read_text()


def section(command: str) -> str:
    return next(part for part in PAGE.split("\n## ") if part.startswith(f"`{command} "))


@pytest.mark.parametrize(
    ("command", "structs"),
    [
        ("likelihood", (Likelihood, Point, Share, Jump, DecisionSeen, Standing)),
        ("bisect", (Bisection, Change, Judgement)),
        ("diff", (Difference, Doing, Side)),
    ],
    ids=["likelihood", "bisect", "diff"],
)
def test_every_key_of_the_json_is_on_the_page(command, structs):
    words = set(re.findall(r"`(\w+)`", section(command)))
    for struct in structs:
        assert set(struct.__struct_fields__) <= words, struct.__name__


@pytest.mark.parametrize("command", ["likelihood", "bisect", "diff", "run"])
def test_the_page_names_no_option_that_the_command_lacks(command, capsys):
    assert main([command, "--help"]) == 0
    offered = set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    named = set(re.findall(r"--[a-z][\w-]*", section(command)))
    assert named <= offered


def test_the_page_gives_the_numbers_of_directed_executions():
    assert f"up to {EXECUTIONS} directed executions ({EXECUTIONS_MAX:,} in all)" in " ".join(
        PAGE.split()
    )
