"""The command ``merge``: the shards of a campaign, as one campaign."""

# ruff: noqa: PLC0415 - a command imports what it needs: `list` and bad usage answer at once

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mshv_async.cli.app import EXPECTED, UNEXPECTED, JsonOpt, TrustOpt
from mshv_async.cli.output import complain, show


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="The --out folders of the shards.")
    ],
    *,
    shrink: Annotated[
        bool,
        typer.Option("--shrink/--no-shrink", help="Make each finding as small as it gets."),
    ] = True,
    trust: TrustOpt = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Default: a dated folder in mshv-async-runs/."),
    ] = None,
    json: JsonOpt = False,
) -> int:
    """Add up the shards of a campaign that several machines explored."""
    from mshv_async.explore.merging import merge_folders, merged_campaign
    from mshv_async.explore.outcome import campaign_outcome, expect_table
    from mshv_async.explore.saving import output_folder, save_campaign, save_outcome
    from mshv_async.scenario import expected_for

    merged = merge_folders(folders)
    of = merged.identity
    campaign = merged_campaign(merged, trust=trust, shrink=shrink)
    folder = output_folder(out, of.scenario_name)
    outcome = campaign_outcome(
        campaign,
        scenario=of.scenario_name,
        driver=of.driver,
        strategy=of.strategy,
        seed=of.seed,
        expected=expected_for(expect_table(of.scenario), of.driver),
        repros=save_campaign(folder, campaign),
        preemptions=of.preemptions,
    )
    save_outcome(folder, outcome.object())
    text = f"{outcome.report()}\nsaved in {folder}"
    show(outcome.object() if json else text, titles=[bug.title for bug in outcome.findings])
    if campaign.error is not None:
        raise campaign.error
    for line in merged.missing:
        complain(line)
    return EXPECTED if outcome.as_expected and not merged.missing else UNEXPECTED
