"""Many executions of one scenario: campaigns, repro files, and what they came to.

`Repro` is one failing schedule as a file, `CampaignResult` and its kind are what executions hand
back, `Outcome` judges them against what the scenario expects and words them for people and JSON.
"""

from mshv_async.explore.outcome import Outcome, ReplayOutcome, RunOutcome
from mshv_async.explore.repro import Repro, ReproError, load_repro, save_repro
from mshv_async.explore.results import CampaignResult, FoundFinding, ReplayResult, RunResult

__all__ = [
    "CampaignResult",
    "FoundFinding",
    "Outcome",
    "ReplayOutcome",
    "ReplayResult",
    "Repro",
    "ReproError",
    "RunOutcome",
    "RunResult",
    "load_repro",
    "save_repro",
]
