"""A comparison of two runs shows where they part and what each thread was doing there."""

import msgspec
import pytest

from mshv_async.explore import save_repro
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.comparing import compare
from mshv_async.explore.finishing import repro_of
from mshv_async.explore.repro import Departed, ReproError
from mshv_async.explore.results import log_verdict
from mshv_async.explore.single import replay_repro, subject_of
from mshv_async.log import LogError, difference_text, write_log
from mshv_async.scenario import Scenario
from mshv_async.sim import run_on_stage
from mshv_async.sim.strategies import Continued


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run a fails, b leaves it half way, c is a on another driver; each as repro and as log."""
    folder = tmp_path_factory.mktemp("runs")
    scenario = Scenario.load("bugs/unmap-during-fault")
    repro = explore_sync(scenario, "v6", strategy="random", seed=3).findings[0].repro
    subject = subject_of(repro)
    tape = [tuple(decision) for decision in msgspec.to_builtins(repro.decisions)]

    async def leave_half_way(stage):
        strategy = Continued(tape, seed=1)
        strategy.kept = len(tape) // 2
        for execution in range(100):
            strategy.begin(execution)
            rt = await subject.play(stage, strategy)
            if list(rt.tape[: strategy.kept + 1]) != tape[: strategy.kept + 1]:
                return repro_of(rt, subject, strategy="random", seed=1)
        raise AssertionError("a hundred times the same decision")

    other = run_on_stage(leave_half_way)
    third = msgspec.structs.replace(repro, driver="v6+unlock-on-failure")
    for name, one in (("a", repro), ("b", other), ("c", third)):
        save_repro(folder / f"{name}.repro.json", one)
        run = replay_repro(one, trust=False).run
        write_log(folder / f"{name}.jsonl", run.header, run.records, log_verdict(run))
    return folder


@pytest.mark.parametrize("kinds", [("repro.json", "repro.json"), ("repro.json", "jsonl")])
def test_a_run_does_not_part_from_itself(runs, kinds):
    a, b = (runs / f"a.{kind}" for kind in kinds)
    found = compare(a, b)
    assert found.same
    assert (found.a.file, found.b.file) == (str(a), str(b))
    assert "the same: " in difference_text(found)


def test_logs_and_repros_part_at_the_same_step(runs):
    by_kind = [compare(runs / f"a.{kind}", runs / f"b.{kind}") for kind in ("jsonl", "repro.json")]
    logs, repros = by_kind
    assert not logs.same
    assert (logs.common, logs.steps, logs.a.next) == (repros.common, repros.steps, repros.a.next)
    assert not any(doing.functions for doing in logs.doing), "a log does not hold the stacks"
    assert any(doing.functions for doing in repros.doing)
    assert {d.thread: d.held for d in logs.doing} == {d.thread: d.held for d in repros.doing}


@pytest.mark.parametrize("pair", ["ab", "ba"])
def test_the_two_go_on_with_the_step_that_differs(runs, pair):
    found = compare(*(runs / f"{name}.repro.json" for name in pair))
    step = f"step {found.steps + 1}  "
    assert found.a.next[0].startswith(step)
    assert found.b.next[0].startswith(step)
    assert found.a.next[0] != found.b.next[0]
    text = difference_text(found, 120)
    row = next(line for line in text.splitlines() if line.startswith(step))
    assert found.b.next[0][:40] in row.partition(" | ")[2]
    assert max(len(line) for line in text.splitlines() if " | " in line) <= 120


def test_each_thread_is_shown_with_its_pending_operation_and_locks(runs):
    found = compare(runs / "a.repro.json", runs / "b.repro.json")
    doing = {d.thread: d for d in found.doing}
    assert doing["vp0"].held == ["vp0.mutex"]
    assert doing["vp0"].pending
    assert doing["vp0"].functions[-1] == "vp_ioctl"
    for side in (found.a, found.b):
        actor, what = side.next[0].split("  ")[1:]
        assert doing[actor].pending == what, "what it does next is what it stood at"
    text = difference_text(found)
    assert f"stands at {doing['vp0'].pending}; holds vp0.mutex; in " in text


def test_runs_of_two_drivers_that_took_the_same_steps_are_the_same(runs):
    found = compare(runs / "a.repro.json", runs / "c.repro.json")
    assert found.same
    assert (found.a.run.driver, found.b.run.driver) == ("v6", "v6+unlock-on-failure")


def changed(runs, tmp_path, **keys):
    repro = msgspec.json.decode((runs / "a.repro.json").read_bytes())
    path = tmp_path / "changed.repro.json"
    path.write_bytes(msgspec.json.encode(repro | keys))
    return path


def test_a_repro_that_no_longer_replays_is_not_compared(runs, tmp_path):
    with pytest.raises(Departed, match="departs at step"):
        compare(changed(runs, tmp_path, digest="0" * 64), runs / "b.jsonl")


def test_driver_source_is_not_run_unasked(runs, tmp_path):
    path = changed(runs, tmp_path, driver="my.py:Mine", driver_source="raise SystemExit")
    with pytest.raises(ReproError, match="--trust"):
        compare(runs / "a.jsonl", path)


@pytest.mark.parametrize("text", ["", "this is no log\n", '{"schema": "other/1"}'])
def test_a_file_that_is_neither_is_told(runs, tmp_path, text):
    (tmp_path / "other").write_text(text)
    with pytest.raises(LogError, match="other: is neither a log nor a repro file"):
        compare(runs / "a.jsonl", tmp_path / "other")
