"""The command line: run, explore, replay, analyze, list (formats.md 2).

Exit status: 0 the outcome is the expected one; 1 it is not; 2 bad usage or bad input, said in one
line on standard error; 130 interrupted, with what was found so far kept. What a command needs is
imported when it runs.
"""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

import os
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.explore.results import RunResult

EXPECTED, UNEXPECTED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

PROGRAM = "mshv-async"

app = typer.Typer(
    name=PROGRAM,
    help="Emulate the mshv driver's movable guest memory and explore its interleavings.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class ListKind(StrEnum):
    """What `list` lists."""

    SCENARIOS = "scenarios"
    DRIVERS = "drivers"
    PATCHES = "patches"
    STRATEGIES = "strategies"
    INVARIANTS = "invariants"


ScenarioArg = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A file, or the name of a shipped scenario.")
]
DriverOpt = Annotated[
    str,
    typer.Option("--driver", metavar="D", help="Profile, profile+patch…, or file.py:Class."),
]
SeedOpt = Annotated[int, typer.Option("--seed", metavar="N", min=0)]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
LogOpt = Annotated[
    Path | None, typer.Option("--log", metavar="FILE.jsonl", help="Keep the run's events here.")
]


@app.callback()
def _commands() -> None:
    """Keep `run` and the others as commands of one program."""


@app.command()
def run(
    scenario: ScenarioArg,
    *,
    driver: DriverOpt = "v6",
    seed: SeedOpt = 1,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Run on asyncio's own loop, undirected.")
    ] = False,
    log: LogOpt = None,
    json: JsonOpt = False,
) -> int:
    """Run a scenario once, in virtual time."""
    from mshv_async.explore.outcome import run_outcome
    from mshv_async.explore.single import run_scenario
    from mshv_async.explore.summary import run_text
    from mshv_async.scenario import Scenario

    situation = Scenario.load(scenario)
    check_writable(log)
    result = run_scenario(situation, driver, seed, realtime=realtime, keep_log=log is not None)
    if log is not None:
        command = f"{PROGRAM} run {shlex.quote(scenario)} --driver {shlex.quote(driver)}"
        keep_log(log, result, "" if realtime else f"{command} --seed {seed}")
    outcome = run_outcome(
        result,
        scenario=situation.name,
        driver=driver,
        seed=seed,
        expected=situation.expected(driver),
        log=log,
    )
    show(outcome.object() if json else run_text(outcome, result), titles=[result.title])
    return EXPECTED if outcome.as_expected else UNEXPECTED


@app.command()
def explore(
    scenario: ScenarioArg,
    *,
    driver: DriverOpt = "v6",
    strategy: Annotated[str, typer.Option("--strategy", metavar="S")] = "pct",
    preemptions: Annotated[
        int | None,
        typer.Option("--preemptions", metavar="N", min=0, help="At most N in one schedule."),
    ] = None,
    schedules: Annotated[int, typer.Option("--schedules", metavar="N", min=1)] = 10_000,
    seconds: Annotated[
        float | None, typer.Option("--time", metavar="SECONDS", min=0, help="Stop after this.")
    ] = None,
    seed: SeedOpt = 1,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, help="Only 1 is built so far.")
    ] = 1,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Use the whole budget; do not stop at a finding.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check the model itself too, and count its states.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Default: a dated folder in mshv-async-runs/."),
    ] = None,
    json: JsonOpt = False,
) -> int:
    """Explore many interleavings of a scenario."""
    from mshv_async.explore.campaign import explore_sync
    from mshv_async.explore.catalogue import check_strategy
    from mshv_async.explore.checking import ModelChecks
    from mshv_async.explore.drivers import driver_spec
    from mshv_async.explore.outcome import campaign_outcome
    from mshv_async.explore.saving import output_folder, save_campaign, save_outcome
    from mshv_async.explore.watching import watched
    from mshv_async.scenario import Scenario

    check_strategy(strategy, preemptions=preemptions)
    situation = Scenario.load(scenario)
    spec = driver_spec(driver)
    folder = output_folder(out, situation.name)
    with watched(schedules, enabled=sys.stderr.isatty()) as progress:
        campaign = explore_sync(
            situation,
            spec,
            strategy=strategy,
            schedules=schedules,
            seconds=seconds,
            seed=seed,
            preemptions=preemptions,
            workers=workers,
            keep_going=keep_going,
            progress=progress,
            checks=ModelChecks() if check else None,
        )
    repros = save_campaign(folder, campaign)
    outcome = campaign_outcome(
        campaign,
        scenario=situation.name,
        driver=driver,
        strategy=strategy,
        seed=seed,
        expected=situation.expected(driver),
        repros=repros,
        preemptions=preemptions,
    )
    save_outcome(folder, outcome.object())
    text = f"{outcome.report()}\nsaved in {folder}"
    show(outcome.object() if json else text, titles=[bug.title for bug in outcome.findings])
    if campaign.error is not None:
        raise campaign.error
    if campaign.interrupted:
        return INTERRUPTED
    return EXPECTED if outcome.as_expected else UNEXPECTED


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE.repro.json")],
    *,
    columns: Annotated[
        bool, typer.Option("--columns", help="Show the interleaving, a column for each thread.")
    ] = False,
    log: LogOpt = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run driver source that the file carries.")
    ] = False,
    json: JsonOpt = False,
) -> int:
    """Replay one recorded schedule, step for step."""
    from mshv_async.explore.outcome import expect_table, replay_outcome
    from mshv_async.explore.repro import check_trust, load_repro
    from mshv_async.explore.single import replay_repro
    from mshv_async.explore.summary import replay_command, replay_text
    from mshv_async.scenario import expected_for

    repro = load_repro(file)
    check_trust(repro, trust=trust, path=file)
    check_writable(log)
    if repro.driver_source is not None:
        complain(f"running the driver source that {file} carries ({repro.driver})")
    result = replay_repro(repro, trust)
    if log is not None:
        keep_log(log, result.run, replay_command(str(file.resolve()), repro))
    expected = expected_for(expect_table(repro.scenario), repro.driver)
    outcome = replay_outcome(result, repro, expected=expected, log=log)
    text = replay_text(outcome, result, with_columns=columns)
    show(outcome.object() if json else text, titles=[outcome.title])
    return EXPECTED if outcome.as_expected and outcome.matches else UNEXPECTED


@app.command()
def analyze(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl")],
    other: Annotated[
        Path | None, typer.Argument(metavar="OTHER.jsonl", help="Show where the two part.")
    ] = None,
    *,
    json: JsonOpt = False,
) -> int:
    """Report on a log: what happened, who waited for whom, locks, threads, the region."""
    import msgspec

    from mshv_async.log import analysis_text, difference, difference_text, terminal_width
    from mshv_async.log import analyze as analyze_log

    if other is None:
        analysis = analyze_log(file)
        text = analysis_text(analysis, terminal_width())
        titles = [text.partition("\n")[0]] if analysis.failed else []
        show(msgspec.to_builtins(analysis) if json else text, titles=titles)
        return EXPECTED
    found = difference(file, other)
    show(msgspec.to_builtins(found) if json else difference_text(found))
    return EXPECTED if found.same else UNEXPECTED


@app.command("list")
def list_(kind: Annotated[ListKind, typer.Argument()], *, json: JsonOpt = False) -> int:
    """List scenarios, drivers, patches, strategies or invariants."""
    from mshv_async.explore.catalogue import catalogue, catalogue_text

    items = catalogue(kind.value)
    show({"items": items} if json else catalogue_text(items))
    return EXPECTED


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line (`args` default to the process's) and return its exit status."""
    try:
        # Typer answers Ctrl-C with 130 and a closed pipe with 1; what it returns is our status,
        # or None after --help.
        status = app(args=args, prog_name=PROGRAM, standalone_mode=False) or EXPECTED
    except BrokenPipeError:
        leave_the_pipe()
        return UNEXPECTED
    except Exception as error:
        text = user_error(error)
        if text is None:
            raise
        complain(text)
        return UNEXPECTED if is_defect(error) else BAD_INPUT
    if status == INTERRUPTED:
        complain("interrupted")
    return int(status)


def leave_the_pipe() -> None:
    """Say nothing more to a reader that went away, as `head` does, not even on the way out."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def user_error(error: Exception) -> str | None:
    """Return what to tell the user in one line, or None where the program itself is at fault.

    The command line's own errors are told by their shape: their classes have moved between
    click and typer.
    """
    message = getattr(error, "format_message", None)
    if callable(message):
        return str(message())
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}"
    if is_defect(error):
        return f"a defect of {PROGRAM}, not of the driver: {error}"
    return str(error) if isinstance(error, _input_errors()) else None


def is_defect(error: Exception) -> bool:
    """Say whether it is a finding that did not replay, so that nobody may believe it."""
    from mshv_async.explore.results import RuntimeDefect

    return isinstance(error, RuntimeDefect)


def _input_errors() -> tuple[type[Exception], ...]:
    from mshv_async.driver import DriverError
    from mshv_async.explore.catalogue import StrategyError
    from mshv_async.explore.repro import ReproError
    from mshv_async.log import LogError
    from mshv_async.scenario import ScenarioError

    return (DriverError, StrategyError, ReproError, LogError, ScenarioError)


def complain(text: str) -> None:
    """Say `text` in one line on standard error."""
    sys.stderr.write(f"{PROGRAM}: {' '.join(text.split())}\n")


def show(what: str | dict[str, Any], *, titles: Sequence[str] = ()) -> None:
    """Print one JSON object, or a text: on a terminal with its lines in `titles` in colour."""
    if isinstance(what, dict):
        import msgspec

        what = msgspec.json.encode(what).decode()
    elif sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        lines = what.split("\n")
        what = "\n".join(f"\x1b[1;31m{x}\x1b[0m" if x in titles else x for x in lines)
    encoding = sys.stdout.encoding or "utf-8"
    # A terminal that knows no "…" still shows the rest.
    sys.stdout.write(what.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


def check_writable(log: Path | None) -> None:
    """Raise OSError now rather than after the run if the log cannot be written."""
    from mshv_async.explore.saving import check_takes_files

    if log is None:
        return
    if log.exists():
        log.open("ab").close()
    else:
        check_takes_files(log.parent)


def keep_log(path: Path, run: RunResult, command: str) -> None:
    """Write the log of a run that was kept; `command` runs it again."""
    import msgspec

    from mshv_async.explore.results import log_verdict
    from mshv_async.log import write_log

    header = msgspec.structs.replace(run.header, command=command)
    write_log(path, header, run.records, log_verdict(run))


if __name__ == "__main__":
    sys.exit(main())
