"""Which patches between two drivers decide the verdict: a walk along the profiles, then ddmin.

Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, IEEE TSE 28 (2002). Here
the input are the changes from one driver to the other, and a change is a patch, put on or taken
off. Departure: patches that do not go together count as one that does not help, not as unresolved.

Each driver is judged by one bounded search, with the same strategy, seed and number of schedules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mshv_async.driver import PROFILES, resolve_driver
from mshv_async.driver.between import applicable, backports, mends, profile_path, stacked
from mshv_async.explore.campaign import explore_sync
from mshv_async.explore.results import CLEAN
from mshv_async.explore.verdict import Verdict
from mshv_async.sim.verdicts import severity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mshv_async.driver import DriverSpec
    from mshv_async.explore.results import Progress
    from mshv_async.scenario import Scenario


BAD = [verdict.value for verdict in Verdict if verdict is not Verdict.CLEAN]


class BisectError(Exception):
    """Two drivers between which there is nothing to look for. One line."""


class Interrupted(Exception):
    """The search was ended by the user."""


class Judgement(msgspec.Struct, frozen=True):
    """What one bounded search said of a driver.

    `verdict` and `title` are those of its first failure (`clean` and empty without one) and
    `schedules` its number; else how many were run, and `exhausted` whether these were all.
    """

    driver: str
    good: bool
    verdict: str
    title: str
    schedules: int
    exhausted: bool


class Change(msgspec.Struct, frozen=True):
    """A patch whose presence decides.

    `present_in`: the `good` driver or the `bad` one, which may hold it as part of its profile;
    `neither` for one that mends what the bad profile brought.
    """

    patch: str
    present_in: str


class Bisection(msgspec.Struct, frozen=True):
    """What decides between two drivers.

    `neighbours`: the last bad and the first good driver on the way from `bad` to `good`.
    `patches`: the fewest, none of which can be missed, whose presence decides between these;
    empty where no patch holds the change. `on` is the driver that shows it. `judged`: every
    search, in order. `interrupted`: ended before it was known.
    """

    scenario: str
    good: str
    bad: str
    strategy: str
    schedules: int
    seed: int
    verdict: str | None
    neighbours: tuple[str, str] | None
    patches: list[Change]
    on: str | None
    judged: list[Judgement]
    interrupted: bool


def bisect(
    scenario: Scenario,
    good: str,
    bad: str,
    *,
    strategy: str,
    schedules: int,
    seed: int = 1,
    verdict: str | None = None,
    progress: Progress | None = None,
) -> Bisection:
    """Find what decides between two drivers: profiles, with patches or without.

    `verdict`: only findings with this one count as bad. Raises DriverError, StrategyError, and
    BisectError if `good` is not good or `bad` not bad.
    """
    if verdict is not None and verdict not in BAD:
        raise BisectError(f"--verdict: found {verdict!r}; allowed: {', '.join(BAD)}")
    search = _Search(
        scenario,
        strategy=strategy,
        schedules=schedules,
        seed=seed,
        verdict=verdict,
        progress=progress,
    )
    try:
        search.run(_profile(good, "--good"), _profile(bad, "--bad"))
        interrupted = False
    except Interrupted:
        interrupted = True
    return Bisection(
        scenario=scenario.name,
        good=good,
        bad=bad,
        strategy=strategy,
        schedules=schedules,
        seed=seed,
        verdict=verdict,
        neighbours=search.neighbours,
        patches=search.patches,
        on=search.on,
        judged=list(search.judged.values()),
        interrupted=interrupted,
    )


def _profile(driver: str, option: str) -> DriverSpec:
    if ".py:" in driver:
        raise BisectError(f"{option} {driver}: allowed: a profile, with or without patches")
    return resolve_driver(driver)


def ddmin(items: Sequence[str], works: Callable[[Sequence[str]], bool]) -> list[str]:
    """Return a part of `items` that works as they do, and of which no single one can be missed."""
    items = list(items)
    parts = 2
    while len(items) > 1:
        size = -(-len(items) // parts)
        chunks = [items[at : at + size] for at in range(0, len(items), size)]
        smaller = next((chunk for chunk in chunks if works(chunk)), None)
        if smaller is not None:
            items, parts = smaller, 2
            continue
        rests = ([x for x in items if x not in chunk] for chunk in chunks)
        smaller = next((rest for rest in rests if works(rest)), None) if parts > 2 else None
        if smaller is not None:
            items, parts = smaller, max(parts - 1, 2)
        elif parts >= len(items):
            break
        else:
            parts = min(2 * parts, len(items))
    return items


class _Search:
    def __init__(
        self,
        scenario: Scenario,
        *,
        strategy: str,
        schedules: int,
        seed: int,
        verdict: str | None,
        progress: Progress | None,
    ) -> None:
        self.scenario = scenario
        self.strategy, self.schedules, self.seed = strategy, schedules, seed
        self.verdict = verdict
        self.progress = progress
        self.judged: dict[str, Judgement] = {}
        self.neighbours: tuple[str, str] | None = None
        self.patches: list[Change] = []
        self.on: str | None = None

    def run(self, good: DriverSpec, bad: DriverSpec) -> None:
        if good.base == bad.base and set(good.patches) == set(bad.patches):
            raise BisectError(f"--good {good.name} and --bad {bad.name}: the same driver")
        self._check(good, bad)
        way = _way(bad, good)
        judged = (self.judge(spec).good for spec in way[1:])
        at = next(i for i, is_good in enumerate(judged) if is_good)
        worse, better = way[at], way[at + 1]
        self.neighbours = (worse.name, better.name)
        if worse.base == better.base:
            self._between_stacks(worse, better)
        else:
            self._between_profiles(worse, better)

    def _check(self, good: DriverSpec, bad: DriverSpec) -> None:
        said = self.judge(good)
        if not said.good:
            raise BisectError(
                f"--good {good.name}: found {said.title} in schedule {said.schedules:,}; "
                "nothing to bisect" + ("" if self.verdict else " without --verdict")
            )
        said = self.judge(bad)
        if said.good:
            what = CLEAN if self.verdict is None else f"no {self.verdict}"
            raise BisectError(
                f"--bad {bad.name}: {what} in {said.schedules:,} schedules; nothing to bisect"
            )

    def judge(self, spec: DriverSpec) -> Judgement:
        """Search once on a driver; known ones are not searched again. Raises Interrupted."""
        known = self.judged.get(spec.name)
        if known is not None:
            return known
        campaign = explore_sync(
            self.scenario,
            spec,
            strategy=self.strategy,
            schedules=self.schedules,
            seed=self.seed,
            keep_going=self.verdict is not None,
            progress=self.progress,
        )
        if campaign.error is not None:
            raise campaign.error
        if campaign.interrupted:
            raise Interrupted
        counted = [f for f in campaign.findings if self.verdict in (None, f.finding.verdict)]
        first = min(
            counted, key=lambda f: (f.first_schedule, severity(f.finding.verdict)), default=None
        )
        said = Judgement(
            driver=spec.name,
            good=first is None,
            verdict=first.finding.verdict if first else CLEAN,
            title=first.finding.title if first else "",
            schedules=first.first_schedule if first else campaign.schedules,
            exhausted=campaign.exhausted,
        )
        self.judged[spec.name] = said
        return said

    def _between_stacks(self, bad: DriverSpec, good: DriverSpec) -> None:
        """Find the fewest changes to the patches of `bad` that make it good."""
        added = [name for name in good.patches if name not in bad.patches]
        dropped = [name for name in bad.patches if name not in good.patches]

        def changed(changes: Sequence[str]) -> DriverSpec | None:
            names = {*bad.patches, *(c for c in changes if c in added)}
            names -= {c for c in changes if c in dropped}
            orders = ([*bad.patches, *added], [*good.patches, *dropped])
            return stacked(bad.base, names, *orders)

        least = ddmin([*added, *dropped], lambda changes: self._is(changed(changes), good=True))
        shown = changed(least)
        self.on = shown.name if shown is not None else good.name
        self.patches = [Change(c, "good" if c in added else "bad") for c in least]

    def _between_profiles(self, bad: DriverSpec, good: DriverSpec) -> None:
        """Find the fewest backports of the newer profile that give the older one its verdict.

        Where the newer one is bad and no backport shows why, find what mends it.
        """
        names = list(PROFILES)
        older, newer = sorted((bad, good), key=lambda spec: names.index(spec.base))
        held = backports(older.base, newer.base)
        if newer is good:
            self._least(older, held, good=True, present_in="good")
            return
        self._least(older, held, good=False, present_in="bad")
        if not self.patches:
            self._least(newer, mends(older.base, newer.base), good=True, present_in="neither")

    def _least(self, on: DriverSpec, names: Sequence[str], *, good: bool, present_in: str) -> None:
        """Find the fewest of some patches that make a driver good, or bad."""
        names = [name for name in names if name not in on.patches]

        def patched(some: Sequence[str]) -> DriverSpec | None:
            return stacked(on.base, {*on.patches, *some}, [*on.patches, *names])

        def works(some: Sequence[str]) -> bool:
            return self._is(patched(some), good=good)

        if names and works(names):
            least = ddmin(names, works)
        else:
            least = next(([name] for name in names if works([name])), [])
        spec = patched(least) if least else None
        if spec is not None:
            self.on = spec.name
            self.patches = [Change(name, present_in) for name in least]

    def _is(self, spec: DriverSpec | None, *, good: bool) -> bool:
        return spec is not None and self.judge(spec).good == good


def _way(bad: DriverSpec, good: DriverSpec) -> list[DriverSpec]:
    """Return the drivers from `bad` to `good`: first its own patches off, then the profiles.

    Patches that both have stay on, where they are for a profile.
    """
    common = [name for name in bad.patches if name in good.patches]
    way = [bad]
    if bad.base != good.base:
        for base in profile_path(bad.base, good.base):
            spec = stacked(base, set(applicable(base, common)), common)
            way += [spec] if spec is not None else []
    way.append(good)
    names = [spec.name for spec in way]
    return [spec for at, spec in enumerate(way) if spec.name not in names[:at]]
