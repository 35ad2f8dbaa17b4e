"""One campaign, played in several ways: alone, on workers, in shards, after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mshv_async
from mshv_async.scenario import Scenario

if TYPE_CHECKING:
    from mshv_async.explore.results import CampaignResult

UNMAP = Scenario.load("bugs/unmap-during-fault")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(mshv_async.__file__).parents[1])}


def told(campaign: CampaignResult) -> dict[str, Any]:
    """Return all that a campaign says, but for the time that it took."""
    return {
        "schedules": campaign.schedules,
        "steps": campaign.steps,
        "predicted": campaign.predicted,
        "warnings": campaign.warnings,
        "cut": campaign.cut,
        "coverage": campaign.coverage,
        "findings": [
            (f.finding, f.repro, f.first_schedule, f.count, f.steps, f.preemptions)
            for f in campaign.findings
        ],
    }


def command(*args: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mshv_async.cli", *args],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
