"""Loading scenarios: from a file, a shipped name or a text, checked as a whole."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mshv_async.scenario.addresses import Addresses
from mshv_async.scenario.checks import check
from mshv_async.scenario.errors import ScenarioError, listed, quoted
from mshv_async.scenario.expect import expected_for
from mshv_async.scenario.injections import checked_injection
from mshv_async.scenario.model import Situation
from mshv_async.scenario.places import place
from mshv_async.scenario.reading import read
from mshv_async.scenario.references import check_references
from mshv_async.scenario.shipped import find, shipped_paths
from mshv_async.scenario.threads import ThreadPlan, plan_threads

_TOML_PLACE = re.compile(r" ?\(at (?:line (\d+), column (\d+)|end of document)\)$")


class Scenario(Situation, frozen=True, kw_only=True):
    """A scenario that was loaded and checked.

    ``text`` and ``traces`` (their texts, by the path that the scenario gives) are all that is
    needed to load it again elsewhere. ``threads`` are its programs, parsed; ``addresses`` says
    where the guest's pages lie in the VMM's process.
    """

    name: str
    text: str
    traces: Mapping[str, str]
    threads: tuple[ThreadPlan, ...]
    addresses: Addresses

    @classmethod
    def load(cls, path_or_name: str | Path) -> Scenario:
        """Load a scenario file, or a shipped scenario by its name.

        Raises ``ScenarioError`` (one line: file, key, what was found, what is allowed).
        """
        name, path = find(path_or_name)
        text = _file_text(str(path), "", "a file", path)
        return _build(text, name, str(path), path.parent, None)

    @classmethod
    def parse(
        cls,
        text: str,
        name: str = "<text>",
        base_dir: Path | str | None = None,
        files: Mapping[str, str] | None = None,
    ) -> Scenario:
        """Load a scenario from its text; errors call it ``name``.

        Traces are ``files`` (text by the path that the scenario gives) if these are given, and
        read relative to ``base_dir`` (default: the current folder) otherwise.
        """
        return _build(text, name, name, Path(base_dir or "."), files)

    def files(self) -> dict[str, str]:
        """Return the files that it needs beside its text: what ``parse`` takes as ``files``."""
        return dict(self.traces)

    def expected(self, driver: str) -> tuple[str, ...]:
        """Return the verdicts expected of a driver spec; ``("clean",)`` if it is not named."""
        return expected_for(self.expect, driver)


class ScenarioEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A shipped scenario as lists show it."""

    name: str
    summary: str
    path: str
    bugs: tuple[str, ...]


def list_scenarios() -> tuple[ScenarioEntry, ...]:
    """Return the shipped scenarios by name."""
    entries = []
    for name, path in shipped_paths().items():
        situation = _situation(_file_text(str(path), "", "a file", path), str(path))
        entries.append(
            ScenarioEntry(name=name, summary=situation.summary, path=str(path), bugs=situation.bugs)
        )
    return tuple(entries)


def _build(
    text: str, name: str, file: str, base_dir: Path, files: Mapping[str, str] | None
) -> Scenario:
    situation = _situation(text, file)
    check(file, situation)
    keys = {field: getattr(situation, field) for field in situation.__struct_fields__}
    keys["inject"] = tuple(
        checked_injection(file, f"inject[{i}]", injection)
        for i, injection in enumerate(situation.inject)
    )
    traces = _traces(file, situation, base_dir, files)
    threads = plan_threads(file, situation, traces)
    check_references(file, situation, threads)
    threads, addresses = place(file, situation, threads)
    return Scenario(
        **keys, name=name, text=text, traces=traces, threads=threads, addresses=addresses
    )


def _situation(text: str, file: str) -> Situation:
    raw = _toml(text, file)
    if isinstance(raw.get("time"), dict):
        raw["time"] = dict(_flat("", raw["time"]))
    return read(file, Situation, raw)


def _toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, ValueError) else "tables nested too deeply"
        place = _TOML_PLACE.search(what)
        key = "end of file" if place else ""
        if place and place[1]:
            key = f"line {place[1]}, column {place[2]}"
        found = f"broken TOML ({_TOML_PLACE.sub('', what)})"
        raise ScenarioError(file, key, found, "a TOML file") from None


def _flat(prefix: str, table: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return nested tables as dotted keys: TOML reads ``a.b = 1`` as a table in a table."""
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        nested = _flat(f"{prefix}{key}.", value) if isinstance(value, dict) else None
        pairs += [(prefix + key, value)] if nested is None else nested
    return pairs


def _file_text(file: str, key: str, shown: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        found = f"{shown}: {error.strerror or 'unreadable'}"
        raise ScenarioError(file, key, found, "a file that can be read") from None
    except ValueError:
        raise ScenarioError(file, key, f"{shown}, which is not UTF-8", "a text file") from None


def _traces(
    file: str, situation: Situation, base_dir: Path, files: Mapping[str, str] | None
) -> dict[str, str]:
    traces: dict[str, str] = {}
    for index, group in enumerate(situation.vp):
        name = group.workload.file if group.workload else None
        if name is None or name in traces:
            continue
        key = f"vp[{index}].workload.file"
        if files is None:
            traces[name] = _file_text(file, key, quoted(name), base_dir / name)
        elif name in files:
            traces[name] = files[name]
        else:
            raise ScenarioError(file, key, quoted(name), f"one of the given files: {listed(files)}")
    return traces
