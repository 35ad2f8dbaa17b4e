"""A bisection in words: each driver judged, then what decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mshv_async.explore.bisecting import Bisection, Judgement


def bisection_text(found: Bisection) -> str:
    """Render a bisection; the last block says what decides."""
    head = [
        f"{found.scenario}  strategy {found.strategy}  seed {found.seed}  "
        f"at most {found.schedules:,} schedules for each driver",
    ]
    if found.verdict is not None:
        head.append(f"bad is who shows {found.verdict}")
    blocks = [head, _judged(found), _decided(found)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _judged(found: Bisection) -> list[str]:
    wide = max((len(said.driver) for said in found.judged), default=0)
    return [
        f"  {said.driver.ljust(wide)}  {'good' if said.good else 'bad '}  {_said(said)}"
        for said in found.judged
    ]


def _said(said: Judgement) -> str:
    if not said.good:
        return f"{said.title} in schedule {said.schedules:,}"
    ended = "exhausted" if said.exhausted else "clean"
    return f"{ended} in {said.schedules:,} schedules"


def _decided(found: Bisection) -> list[str]:
    if found.neighbours is None:
        return ["interrupted: this is what was judged so far"]
    bad, good = found.neighbours
    lines = [f"the verdict changes from {bad} (bad) to {good} (good)"]
    if found.interrupted:
        return [*lines, "interrupted before it was known which patch decides"]
    if not found.patches:
        return [*lines, "no patches hold this change"]
    lines.append(f"decides: {' + '.join(change.patch for change in found.patches)}")
    if len({change.present_in for change in found.patches}) > 1:
        lines += [f"  {c.patch} is in the {c.present_in} driver only" for c in found.patches]
    if found.on is not None:
        judged = {said.driver: said for said in found.judged}
        with_them = judged[found.on]
        without = judged[bad if with_them.good else good]
        lines += [f"  {said.driver} is {_short(said)}" for said in (with_them, without)]
    return lines


def _short(said: Judgement) -> str:
    return f"{'good' if said.good else 'bad'}: {_said(said)}"
