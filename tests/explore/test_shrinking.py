"""A finding is shown as small as it gets, and is still the same finding."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import fields

import mshv_async
from mshv_async.cli import main
from mshv_async.explore import ReproError, load_repro, save_repro
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.repro import Original
from mshv_async.explore.schedules import Budget, ScheduleShrinker, failure_of
from mshv_async.explore.shrinking import EXECUTIONS, STEPS
from mshv_async.explore.single import replay_repro
from mshv_async.explore.summary import shrunk_lines
from mshv_async.scenario import Scenario, ScenarioError
from mshv_async.scenario.reducing import shorter_programs, smaller_scenarios, toml_text
from mshv_async.scenario.shipped import shipped_paths
from mshv_async.sim import (
    Bounds,
    Runtime,
    Shared,
    choose,
    cond_resched,
    current,
    oops,
    point,
    run_on_stage,
    step,
)
from mshv_async.sim.digest import digest
from mshv_async.sim.liveness import SETTLE
from mshv_async.sim.strategies import Fifo, RandomWalk, Replay, TwoPhase
from mshv_async.sim.strategies.guided import Guided, course_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.explore.results import CampaignResult, FoundFinding
    from mshv_async.sim import Stage
    from mshv_async.sim.strategies import Strategy

    Build = Callable[[Runtime], None]

BOUNDS = Bounds(progress_steps=100, max_steps=20_000)
LOST = "an update is lost"
LURKS = "somebody was early"


class Counter(Shared):
    """Counts what two threads add to it, and how many have."""

    __slots__ = ("added", "value")

    def __init__(self) -> None:
        super().__init__("counter")
        self.value = 0
        self.added = 0


async def add(counter: Counter, failing: bool) -> None:
    """Add one; ``failing``: only after a failure."""
    if failing and not choose("alloc.fails", 2):
        return
    await point("counter.read", counter, write=False)
    value = counter.value
    await point("counter.write", counter)
    counter.value = value + 1
    counter.added += 1
    if counter.added == 2 and counter.value != 2:
        oops(LOST)


async def make_noise() -> None:
    """Do nothing that matters, with failures now and then."""
    for _ in range(3):
        await step("noise")
        choose("noise.fails", 2)


async def be_early(counter: Counter) -> None:
    """Meet another bug: it takes no preemption."""
    await point("counter.look", counter, write=False)
    if not counter.added:
        oops(LURKS)


def lost_update(*, noise: int = 6, lurking: bool = False, failing: bool = False) -> Build:
    """Two threads add one each, others make noise."""

    def build(rt: Runtime) -> None:
        counter = Counter()
        for number in range(noise):
            rt.spawn(f"noise{number}", make_noise)
        rt.spawn("left", lambda: add(counter, failing))
        rt.spawn("right", lambda: add(counter, failing))
        if lurking:
            rt.spawn("early", lambda: be_early(counter))

    return build


async def play(build: Build, stage: Stage, strategy: Strategy) -> Runtime:
    rt = Runtime(strategy, bounds=BOUNDS)
    build(rt)
    await stage.play(rt)
    return rt


async def failing_run(build: Build, stage: Stage, preemptions: int) -> Runtime:
    """Return a run that loses an update, with at least so many preemptions."""
    strategy = RandomWalk(1)
    for number in range(3_000):
        strategy.begin(number)
        rt = await play(build, stage, strategy)
        if rt.finding and LOST in rt.finding.title and len(rt.preempted_at) >= preemptions:
            return rt
    raise AssertionError("no such run")


def shrunk(build: Build, budget: Budget, preemptions: int = 5) -> tuple[Runtime, ScheduleShrinker]:
    """Shrink a failing run of a toy; return the run as it was found, and what did it."""

    async def act(stage: Stage) -> tuple[Runtime, ScheduleShrinker]:
        rt = await failing_run(build, stage, preemptions)
        work = ScheduleShrinker(lambda strategy: play(build, stage, strategy), failure_of(rt))
        await work.shrink(budget.part(0.5))
        await work.enumerate(budget)
        again = await play(build, stage, Replay(work.best.tape))
        assert digest(again) == work.best.digest
        return rt, work

    result: tuple[Runtime, ScheduleShrinker] = run_on_stage(act)
    return result


def test_a_course_leads_to_the_execution_that_it_was_taken_from():
    async def act(stage: Stage) -> None:
        rt = await failing_run(lost_update(), stage, 5)
        assert digest(await play(lost_update(), stage, Guided(course_of(rt)))) == digest(rt)

    run_on_stage(act)


def test_a_lost_update_among_six_others_is_left_with_its_one_preemption():
    rt, work = shrunk(lost_update(), Budget(600, 60_000))
    assert len(rt.preempted_at) >= 5
    assert work.best.size.preemptions == 1
    assert work.minimal
    # Only the two that meet have run: start, read, write of each.
    assert work.best.size.steps <= 6
    assert {s.thread for s in work.best.course.stretches} == {"left", "right"}


def test_where_the_scope_is_small_it_is_proved_that_fewer_preemptions_would_not_do():
    _, work = shrunk(lost_update(noise=1), Budget(600, 60_000), preemptions=2)
    assert work.best.size.preemptions == work.least == 1


def test_choices_that_are_not_needed_are_benign_again():
    rt, work = shrunk(lost_update(), Budget(600, 60_000))
    assert course_of(rt).values
    assert not work.best.course.values


def test_choices_that_are_needed_stay():
    _, work = shrunk(lost_update(failing=True), Budget(600, 60_000))
    assert {key.label for key in work.best.course.values} == {"alloc.fails"}
    assert len(work.best.course.values) == 2


def test_another_bug_that_is_easier_to_meet_does_not_take_over():
    rt, work = shrunk(lost_update(lurking=True), Budget(600, 60_000))
    assert rt.finding is not None
    assert (work.best.verdict, work.best.title) == (rt.finding.verdict, rt.finding.title)
    assert LURKS not in work.best.title
    assert work.best.size < failure_of(rt).size


def test_the_same_failure_shrinks_to_the_same_one():
    first, second = (shrunk(lost_update(), Budget(200, 60_000))[1] for _ in range(2))
    assert first.best == second.best


@pytest.mark.parametrize("budget", [Budget(7, 60_000), Budget(600, 100)], ids=["runs", "steps"])
def test_no_execution_begins_once_the_budget_is_spent(budget):
    parts = []

    async def act(stage: Stage) -> None:
        rt = await failing_run(lost_update(), stage, 5)

        async def counted(strategy: Strategy) -> Runtime:
            assert not budget.over
            parts.append(await play(lost_update(), stage, strategy))
            return parts[-1]

        work = ScheduleShrinker(counted, failure_of(rt))
        await work.shrink(budget)
        await work.enumerate(budget)
        assert not work.minimal

    run_on_stage(act)
    assert budget.over
    assert budget.spent == len(parts)


def never_ends(rt: Runtime) -> None:
    """One tries for ever, in any phase; another does its work."""

    async def tries() -> None:
        current().owes_progress()
        while True:
            await cond_resched()

    async def works() -> None:
        for _ in range(50):
            await step("works")

    rt.spawn("tries", tries)
    rt.spawn("works", works)


def test_a_failure_of_the_second_phase_stays_one():
    async def act(stage: Stage) -> None:
        strategy = TwoPhase(RandomWalk(1), 1)
        for number in range(500):
            strategy.begin(number)
            rt = await play(never_ends, stage, strategy)
            settled = any(choice.label == SETTLE for _, choice in rt.choices)
            # So late that without a second phase the run would not be much longer.
            if settled and rt.settled_at is not None and rt.settled_at > 70:
                break
        work = ScheduleShrinker(lambda s: play(never_ends, stage, s), failure_of(rt))
        await work.shrink(Budget(100, 100_000))
        assert work.best.settles
        assert work.best.size < failure_of(rt).size
        again = await play(never_ends, stage, Replay(work.best.tape))
        assert digest(again) == work.best.digest

    run_on_stage(act)


def test_what_a_course_names_and_there_is_not_is_passed_over():
    async def act(stage: Stage) -> None:
        rt = await failing_run(lost_update(), stage, 5)
        course = course_of(rt)
        odd = course._replace(stretches=tuple(s._replace(thread="x") for s in course.stretches))
        fifo = await play(lost_update(), stage, Fifo())
        guided = await play(lost_update(), stage, Guided(odd._replace(values={})))
        assert digest(guided) == digest(fifo)

    run_on_stage(act)


SPARE = """
summary = "A region is unmapped under a fault, beside what has nothing to do with it"

[[region]]
gfn = 0x200
size = "4KiB"

[[region]]
gfn = 0x800
size = "8KiB"

[[vp]]
program = ["read 0x800"]

[[vp]]
count = 2
program = ["repeat 3 write 0x200; read 0x200"]

[[thread]]
kind = "host"
program = ["touch 0x801", "repeat 2 madvise dontneed 0x800 1"]

[[thread]]
kind = "vmm"
program = ["unmap 0x200", "unmap 0x800"]

[[inject]]
at = "hypercall.map_gpa"
status = "OPERATION_FAILED"
within = "map_user_memory"      # which nobody calls
times = 3

[expect]
v6 = ["use-after-free"]
"""


def found(scenario: Scenario, driver: str = "v6", **options: Any) -> FoundFinding:
    campaign: CampaignResult = explore_sync(scenario, driver, seed=1, **options)
    assert campaign.error is None
    return campaign.findings[0]


def test_a_scenario_is_left_with_what_the_failure_needs(tmp_path: Path):
    scenario = Scenario.parse(SPARE, "spare")
    options = {"strategy": "pct", "schedules": 500}
    before = found(scenario, **options)
    after = found(scenario, **options, shrink=True)
    assert (after.finding.verdict, after.finding.title) == (
        before.finding.verdict,
        before.finding.title,
    )
    small = Scenario.parse(after.repro.scenario, after.repro.scenario_name)
    assert small.name == "spare"
    assert small.expected("v6") == scenario.expected("v6")
    assert len(small.region) == 1
    assert [thread.name for thread in small.threads] == ["vp0", "vmm"]
    assert all(len(list(thread.program)) == 1 for thread in small.threads)
    assert not small.inject
    assert after.steps < before.steps
    path = tmp_path / "spare.repro.json"
    save_repro(path, after.repro)
    again = load_repro(path)
    assert again == after.repro
    assert replay_repro(again, trust=False).matches
    original = replay_repro(again.before_shrinking(), trust=False)
    assert original.matches
    assert original.run.digest == before.repro.digest


def test_without_shrinking_the_run_is_the_one_that_was_found():
    finding = found(Scenario.load("bugs/unmap-during-fault"), strategy="pct", schedules=500)
    assert finding.shrinking is None
    assert finding.repro.original is None
    assert shrunk_lines(finding) == []


def test_the_command_plays_what_was_found_and_what_it_was_shrunk_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    args = ["explore", "bugs/unmap-during-fault", "--strategy", "random", "--seed", "2"]
    assert main([*args, "--out", str(tmp_path)]) == 0
    assert "shrunk from " in capsys.readouterr().out
    file = next(tmp_path.glob("*.repro.json"))
    assert main(["replay", str(file)]) == 0
    small = capsys.readouterr().out
    assert main(["replay", str(file), "--original"]) == 0
    assert "replay: matches" in capsys.readouterr().out
    assert "replay: matches" in small
    assert main([*args, "--no-shrink", "--out", str(tmp_path)]) == 0
    assert "shrunk" not in capsys.readouterr().out
    file = next(tmp_path.glob("*.repro.json"))
    assert main(["replay", str(file), "--original"]) == 2
    assert "holds no original" in capsys.readouterr().err


def test_a_repro_from_before_there_was_shrinking_still_loads(tmp_path: Path):
    repro = found(Scenario.load("bugs/unmap-during-fault"), strategy="pct", schedules=500).repro
    path = tmp_path / "old.repro.json"
    save_repro(path, repro)
    path.write_text("".join(x for x in path.read_text().splitlines(True) if '"original"' not in x))
    path.write_text(path.read_text().replace("},\n}", "}\n}"))
    assert load_repro(path) == repro
    with pytest.raises(ReproError, match="no original"):
        load_repro(path).before_shrinking()


@pytest.mark.parametrize("name", list(shipped_paths()))
def test_a_scenario_that_is_written_again_is_the_same(name):
    raw = tomllib.loads(shipped_paths()[name].read_text())
    assert tomllib.loads(toml_text(raw)) == raw


@pytest.mark.parametrize("name", [n for n in shipped_paths() if n.startswith(("bugs/", "litmus/"))])
def test_a_smaller_scenario_can_be_loaded_or_is_refused(name):
    scenario = Scenario.load(name)
    loaded = 0
    for smaller in smaller_scenarios(scenario.text):
        try:
            small = Scenario.parse(smaller.text, name, files=scenario.files())
        except ScenarioError:
            continue
        loaded += 1
        assert small.expect == scenario.expect
        assert small != scenario
    assert loaded or name == "litmus/one-access" or len(scenario.threads) == 1


def test_processors_behind_one_that_is_left_out_move_up():
    renamed = {s.what: s.renamed for s in smaller_scenarios(SPARE)}
    assert [renamed["vp1"](n) for n in ("vp0", "vp2", "guest2", "lp-vp2", "host")] == [
        "vp0",
        "vp1",
        "guest1",
        "lp-vp1",
        "host",
    ]


def test_programs_lose_lines_repetitions_and_operations_of_a_group():
    assert list(shorter_programs(["repeat 4 read 0x1; read 0x2", "write 0x3"])) == [
        ["repeat 4 read 0x1; read 0x2"],
        ["write 0x3"],
        ["read 0x1; read 0x2", "write 0x3"],
        ["repeat 2 read 0x1; read 0x2", "write 0x3"],
        ["repeat 3 read 0x1; read 0x2", "write 0x3"],
        ["repeat 4 read 0x1", "write 0x3"],
        ["repeat 4 read 0x2", "write 0x3"],
    ]


def test_the_page_on_shrinking_knows_the_keys_and_the_budget():
    page = (Path(mshv_async.__file__).parent / "reference" / "shrinking.md").read_text()
    table = page.partition("| key | meaning |")[2].partition("\n\n")[0]
    listed = [key for row in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", row[:30])]
    assert sorted(listed) == sorted(field.encode_name for field in fields(Original))
    assert f"At most {EXECUTIONS} executions and {STEPS:,} steps" in page
    small = found(Scenario.load("bugs/unmap-during-fault"), strategy="pct", shrink=True)
    for line in shrunk_lines(small)[1].split("; "):
        assert f"`{line}`" in page
