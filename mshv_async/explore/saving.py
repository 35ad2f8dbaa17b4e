"""The output folder of a campaign: `outcome.json` and `N-<verdict>.repro.json`."""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from errno import ENOTDIR
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mshv_async.explore.repro import save_repro
from mshv_async.explore.results import CampaignError

if TYPE_CHECKING:
    from mshv_async.explore.results import CampaignResult

RUNS_DIR = "mshv-async-runs"

_OF_A_CAMPAIGN = re.compile(r"outcome\.json|[1-9][0-9]*-[a-z][a-z:-]*\.repro\.json")


def output_folder(out: Path | None, scenario: str, *, resume: bool = False) -> Path:
    """Return a folder that exists and takes files: `out`, else a new dated one under RUNS_DIR.

    Called before a campaign begins, so that hours of search do not end in "permission denied".
    What an earlier campaign left in `out` is removed: its outcome and its numbered repro files,
    nothing else; with ``resume`` not before there is something new. Raises CampaignError, OSError.
    """
    if resume and out is None:
        raise CampaignError("--resume: goes on with the campaign in a folder: give --out DIR")
    folder = out if out is not None else _dated(Path(RUNS_DIR), scenario)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(ENOTDIR, "is a file; allowed: a folder, or none yet", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    check_takes_files(folder)
    if not resume:
        _clear(folder)
    return folder


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if _OF_A_CAMPAIGN.fullmatch(path.name) and path.is_file():
            path.unlink()


def check_takes_files(folder: Path) -> None:
    """Raise OSError, naming `folder`, unless files can be made in it. Leaves nothing behind."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def _dated(parent: Path, scenario: str) -> Path:
    """Return a name not used so far: date, time and scenario, numbered from the second on."""
    now = datetime.now(tz=UTC).astimezone().strftime("%Y-%m-%d-%H%M%S")
    stem = f"{now}-{Path(scenario).name.removesuffix('.toml')}"
    names = (stem if n == 1 else f"{stem}-{n}" for n in count(1))
    return next(parent / name for name in names if not (parent / name).exists())


def save_campaign(folder: Path, campaign: CampaignResult) -> list[Path]:
    """Write the repro of each finding, numbered from 1; return their paths. Raises OSError."""
    _clear(folder)  # what a campaign that is resumed had left
    paths = []
    for number, found in enumerate(campaign.findings, 1):
        path = folder / f"{number}-{found.finding.verdict}.repro.json"
        save_repro(path, found.repro)
        paths.append(path)
    return paths


def save_outcome(folder: Path, outcome: dict[str, Any]) -> Path:
    """Write what `explore --json` prints to `outcome.json`; return its path. Raises OSError."""
    path = folder / "outcome.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=2) + b"\n")
    return path
