"""`bisect` on the command line: what it prints, and how it exits."""

import json
from types import SimpleNamespace

import pytest

from mshv_async.cli import main
from mshv_async.explore import CampaignResult, bisecting

NAME = "bugs/unmap-during-fault"


def test_it_says_how_each_driver_was_judged_and_what_decides(capsys):
    assert main(["bisect", NAME, "--good", "v7", "--bad", "v6", "--schedules", "40"]) == 0
    out = capsys.readouterr().out
    assert "at most 40 schedules for each driver" in out
    assert "decides: region-refcount" in out
    assert "clean in 40 schedules" in out


def test_json_is_one_object(capsys):
    args = ["bisect", NAME, "--good", "v7", "--bad", "v6", "--schedules", "40", "--json"]
    assert main(args) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["neighbours"] == ["v6", "v7"]
    assert data["patches"] == [{"patch": "region-refcount", "present_in": "good"}]
    assert data["judged"][0]["driver"] == "v7"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--good", "v6", "--bad", "v7"], "--good v6: found invariant:teardown-clean"),
        (["--good", "v7", "--bad", "v9"], "--bad v9: clean in 40 schedules; nothing to bisect"),
        (["--good", "v7", "--bad", "v66"], "v66"),
        (["--good", "v7"], "--bad"),
        (["--good", "v7", "--bad", "v6", "--strategy", "no"], "strategy: found 'no'"),
        (["--good", "v7", "--bad", "v6", "--schedules", "0"], "--schedules"),
    ],
)
def test_what_cannot_be_bisected_is_told_in_a_line(capsys, options, said):
    given = [] if "--schedules" in options else ["--schedules", "40"]
    assert main(["bisect", NAME, *options, *given]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_interrupted_it_shows_what_was_judged_and_exits_130(capsys, monkeypatch):
    ended = iter([False, True])

    def explore_sync(*_args, **_options):
        return CampaignResult(
            schedules=9, steps=1, seconds=0.1, exhausted=False, interrupted=next(ended)
        )

    monkeypatch.setattr(bisecting, "explore_sync", explore_sync)
    assert main(["bisect", NAME, "--good", "v7", "--bad", "v6"]) == 130
    out, err = capsys.readouterr()
    assert "interrupted" in out
    assert "clean in 9 schedules" in out
    assert err == "mshv-async: interrupted\n"


def test_an_error_of_a_driver_ends_it(capsys, monkeypatch):
    monkeypatch.setattr(
        bisecting,
        "explore_sync",
        lambda *_a, **_o: SimpleNamespace(error=OSError(28, "No space left"), interrupted=False),
    )
    assert main(["bisect", NAME, "--good", "v7", "--bad", "v6"]) == 2
    assert "No space left" in capsys.readouterr().err
